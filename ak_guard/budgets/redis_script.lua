-- Everything that happens to the budgets of one subject, in one step. The arithmetic is that of rows.py; the contract
-- tests hold both to the same model.
--
-- KEYS[1]  its windows: slot -> "generation,start,finish,used,before"; "-" is the finish of a window without end
-- KEYS[2]  its leases: id -> "deadline,slot units generation slot units generation ...,worker"
-- KEYS[3]  the number of the newest batch of settlements that was counted for whoever asks
-- ARGV[1]  the request (JSON); see redis_wire.py, which also reads the answer: one text, since a client spends its time
--          on every single value it is sent
--
-- Numbers are doubles: whole ones are exact up to 2^53, and times travel as text with 17 digits.

local MOST = 2 ^ 53
local SETTLED_MILLISECONDS = 3600000

local request = cjson.decode(ARGV[1])
local own_time = request.now == nil
local now = request.now
if own_time then
    local time = redis.call("TIME")
    now = time[1] + time[2] / 1000000
end

local function text(number)
    return number == math.huge and "-" or string.format("%.17g", number)
end

local function number(value)
    return value == "-" and math.huge or tonumber(value)
end

-- What is there ------------------------------------------------------------------------------------------------------

local rows, touched = {}, {}
local leases, new_leases, ended_leases = {}, {}, {}
local fresh = request.fresh

local function load_rows()
    local stored = redis.call("HGETALL", KEYS[1])
    for i = 1, #stored, 2 do
        local generation, start, finish, used, before = stored[i + 1]:match("^([^,]+),([^,]+),([^,]+),([^,]+),([^,]+)$")
        rows[stored[i]] = {
            generation = tonumber(generation),
            start = tonumber(start),
            finish = number(finish),
            used = tonumber(used),
            before = tonumber(before),
        }
    end
end

-- A lease past its deadline counts as spent. Reading leaves it to the next call that writes.
local function load_leases()
    local stored = redis.call("HGETALL", KEYS[2])
    for i = 1, #stored, 2 do
        local deadline, parts, worker = stored[i + 1]:match("^([^,]+),([^,]*),(.*)$")
        local lease = { deadline = tonumber(deadline), worker = worker, parts = {} }
        for slot, units, generation in parts:gmatch("(%S+) (%S+) (%S+)") do
            lease.parts[#lease.parts + 1] = { slot = slot, units = tonumber(units), generation = tonumber(generation) }
        end
        if now < lease.deadline then
            leases[stored[i]] = lease
        elseif request.op ~= "read" then
            ended_leases[#ended_leases + 1] = stored[i]
        end
    end
end

-- Windows ------------------------------------------------------------------------------------------------------------

local function outside(window, at)
    return window.kind == "calendar" and (at < window.start or at >= window.finish)
end

local function bounds(window, at)
    if window.kind == "calendar" then
        return window.start, window.finish
    elseif window.kind == "sliding" then
        local start = at - math.fmod(at, window.seconds)
        return start, start + window.seconds
    elseif window.kind == "endless" then
        return at, math.huge
    end
    return at, at + window.seconds
end

local function rolled(window, row, at)
    local start, finish = bounds(window, at)
    local before = 0
    if row and window.kind == "sliding" and row.finish == start then
        before = row.used
    end
    return { generation = 0, start = start, finish = finish, used = 0, before = before }
end

local function under_way(window, at)
    local row = rows[window.slot]
    if row and at < row.finish then
        return row
    end
    return rolled(window, row, at)
end

local function begin(slot, row)
    fresh = fresh + 1
    row.generation = fresh
    rows[slot] = row
end

local function counted(window, row, at)
    if row.before == 0 then
        return row.used
    end
    return row.used + math.floor(row.before * (row.finish - math.max(at, row.start)) / window.seconds)
end

local function last_use(slot, row)
    if slot:find("/sliding/", 1, true) then
        return 2 * row.finish - row.start
    end
    return row.finish
end

-- What is done -------------------------------------------------------------------------------------------------------

local function give_back(slot, units, generation)
    local row = rows[slot]
    if not row or row.generation ~= generation then
        return
    end
    row.used = math.max(0, math.min(MOST, row.used - units))
    if units ~= 0 and row.used == 0 and row.before == 0 then
        rows[slot] = nil
    end
    touched[slot] = true
end

local function end_lease(id, unspent)
    local lease = leases[id]
    if not lease then
        return
    end
    for _, part in ipairs(lease.parts) do
        give_back(part.slot, math.min(part.units, unspent[part.slot] or 0), part.generation)
    end
    leases[id] = nil
    ended_leases[#ended_leases + 1] = id
end

local function settle(change)
    if change.generation then
        give_back(change.slot, -change.units, change.generation)
        return
    end
    local at = change.now or now
    local row = under_way(change, at)
    if row.generation == 0 then
        begin(change.slot, row)
    end
    row.used = math.max(0, math.min(MOST, row.used + change.units))
    touched[change.slot] = true
end

-- A batch may come twice, when the answer to the first was lost.
local function settle_batches()
    if #request.batches == 0 then
        return
    end
    local done = tonumber(redis.call("GET", KEYS[3]) or "0")
    for _, batch in ipairs(request.batches) do
        if batch.number > done then
            done = batch.number
            for _, change in ipairs(batch.changes) do
                settle(change)
            end
        end
    end
    redis.call("SET", KEYS[3], text(done), "PX", SETTLED_MILLISECONDS)
end

local function extras(counts)
    local fits, wanted = {}, {}
    for i, ask in ipairs(request.asks) do
        if ask.extra > 0 then
            local left = ask.amount - counts[i] - ask.need
            local room = 0
            if 10 * left >= ask.amount then
                room = math.min(ask.extra, math.floor(left / 10))
            end
            fits[ask.unit] = math.min(room, fits[ask.unit] or room)
            wanted[i] = ask.unit
        end
    end
    return fits, wanted
end

-- When the first of the leases that hold units of a full window ends.
local function retry_at(full, current)
    local generations = {}
    for _, index in ipairs(full) do
        local row = current[index + 1]
        generations[request.asks[index + 1].slot] = row.generation
    end
    local first = math.huge
    for _, lease in pairs(leases) do
        for _, part in ipairs(lease.parts) do
            if part.units > 0 and generations[part.slot] == part.generation then
                first = math.min(first, lease.deadline)
            end
        end
    end
    return text(first)
end

local function shown(row)
    return table.concat(
        { text(row.generation), text(row.start), text(row.finish), text(row.used), text(row.before) },
        ","
    )
end

local function all_shown(list, show)
    local texts = {}
    for i, value in ipairs(list) do
        texts[i] = show(value)
    end
    return table.concat(texts, " ")
end

local function lend(lease, taken, current)
    local parts = {}
    for i, ask in ipairs(request.asks) do
        if taken[i] > 0 then
            parts[#parts + 1] = { slot = ask.slot, units = taken[i], generation = current[i].generation }
        end
    end
    leases[lease.id] = { deadline = now + lease.seconds, worker = lease.worker, parts = parts }
    new_leases[#new_leases + 1] = lease.id
end

local function acquire()
    local lease = request.lease
    if lease and lease.renews ~= "" then
        end_lease(lease.renews, lease.unspent)
    end
    local current, counts, full, taken = {}, {}, {}, {}
    for i, ask in ipairs(request.asks) do
        current[i] = under_way(ask, now)
        counts[i] = counted(ask, current[i], now)
        if ask.need > 0 and counts[i] + ask.need > ask.amount then
            full[#full + 1] = i - 1
        end
    end
    if #full > 0 then
        return {
            "short",
            all_shown(current, shown),
            all_shown(counts, text),
            all_shown(full, text),
            retry_at(full, current),
        }
    end
    local fits, wanted = extras(counts)
    for i, ask in ipairs(request.asks) do
        local row = current[i]
        taken[i] = ask.need + (wanted[i] and fits[wanted[i]] or 0)
        if taken[i] > 0 then
            if row.generation == 0 then
                begin(ask.slot, row)
            end
            row.used = row.used + taken[i]
            counts[i] = counts[i] + taken[i]
            touched[ask.slot] = true
        end
    end
    if lease then
        lend(lease, taken, current)
    end
    return { "granted", all_shown(current, shown), all_shown(counts, text), all_shown(taken, text) }
end

local function read()
    local answer = { "read" }
    for slot, row in pairs(rows) do
        local held = 0
        for _, lease in pairs(leases) do
            for _, part in ipairs(lease.parts) do
                if part.slot == slot and part.generation == row.generation and now < row.finish then
                    held = held + part.units
                end
            end
        end
        answer[#answer + 1] = slot .. " " .. shown(row) .. " " .. text(held)
    end
    return answer
end

local function restart()
    for _, slot in ipairs(request.slots) do
        rows[slot] = nil
        touched[slot] = true
    end
    return { "done" }
end

local function forget()
    rows, touched, leases, new_leases, ended_leases = {}, {}, {}, {}, {}
    redis.call("DEL", KEYS[1], KEYS[2])
    return { "done" }
end

-- What stays ---------------------------------------------------------------------------------------------------------

local function keep_until(key, last)
    -- A hash without fields is gone by itself.
    if not own_time or last == -math.huge then
        return
    elseif last == math.huge then
        redis.call("PERSIST", key)
    else
        redis.call("PEXPIREAT", key, text(math.ceil(last * 1000)))
    end
end

local function save_rows()
    if not next(touched) then
        return
    end
    local last = -math.huge
    for slot, row in pairs(rows) do
        if now >= last_use(slot, row) then
            rows[slot] = nil
            touched[slot] = true
        else
            last = math.max(last, last_use(slot, row))
        end
    end
    for slot in pairs(touched) do
        if rows[slot] then
            redis.call("HSET", KEYS[1], slot, shown(rows[slot]))
        else
            redis.call("HDEL", KEYS[1], slot)
        end
    end
    keep_until(KEYS[1], last)
end

local function save_leases()
    for _, id in ipairs(ended_leases) do
        redis.call("HDEL", KEYS[2], id)
    end
    if #new_leases == 0 then
        return
    end
    for _, id in ipairs(new_leases) do
        local parts = {}
        for i, part in ipairs(leases[id].parts) do
            parts[i] = part.slot .. " " .. text(part.units) .. " " .. text(part.generation)
        end
        local lease = leases[id]
        redis.call("HSET", KEYS[2], id, text(lease.deadline) .. "," .. table.concat(parts, " ") .. "," .. lease.worker)
    end
    local last = 0
    for _, lease in pairs(leases) do
        last = math.max(last, lease.deadline)
    end
    keep_until(KEYS[2], last)
end

-- Calendar bounds were reckoned for a time that was only guessed. When the guess was wrong nothing is done.
for _, ask in ipairs(request.asks) do
    if outside(ask, now) then
        return text(now) .. "\noutside"
    end
end
for _, batch in ipairs(request.batches) do
    for _, change in ipairs(batch.changes) do
        if not change.generation and outside(change, change.now or now) then
            return text(now) .. "\noutside"
        end
    end
end

load_rows()
load_leases()
settle_batches()
local answer = { "done" }
if request.op == "acquire" then
    answer = acquire()
elseif request.op == "give back" then
    end_lease(request.lease.id, request.lease.unspent)
elseif request.op == "read" then
    answer = read()
elseif request.op == "restart" then
    answer = restart()
elseif request.op == "forget" then
    answer = forget()
end
save_rows()
save_leases()
return text(now) .. "\n" .. table.concat(answer, "\n")
