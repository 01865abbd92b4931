-- Who holds slots of one subject, in one step; the arithmetic is that of slots.py and book.py.
--
-- KEYS[1]  worker -> "held,want,number,deadline"
-- ARGV     now ("" where the server's own time decides); and for whoever holds: worker, number, floor, want, limit,
--          seconds
-- The answer is "held,others,wanted": what that worker holds, what all others do, and 1 if any of these wanted more.

local own_time = ARGV[1] == ""
local now = tonumber(ARGV[1])
if own_time then
    local time = redis.call("TIME")
    now = time[1] + time[2] / 1000000
end

local worker = ARGV[2]
local mine, last, others, wanted = 0, now, 0, 0
local stored = redis.call("HGETALL", KEYS[1])
for i = 1, #stored, 2 do
    local held, want, number, deadline = stored[i + 1]:match("^([^,]+),([^,]+),([^,]+),([^,]+)$")
    if stored[i] == worker then
        mine = tonumber(number)
    elseif now < tonumber(deadline) then
        others = others + tonumber(held)
        if tonumber(want) > tonumber(held) then
            wanted = 1
        end
        last = math.max(last, tonumber(deadline))
    elseif worker then
        redis.call("HDEL", KEYS[1], stored[i])
    end
end
if not worker then
    return string.format("0,%d,%d", others, wanted)
end

local number, floor, want = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local limit, seconds = tonumber(ARGV[6]), tonumber(ARGV[7])
if number <= mine then
    -- It was overtaken, and nobody waits for it any more.
    return string.format("%d,%d,%d", floor, others, wanted)
end
local held = math.max(floor, math.min(want, limit - others))
local deadline = now + seconds
redis.call("HSET", KEYS[1], worker, string.format("%d,%d,%d,%.17g", held, want, number, deadline))
if own_time then
    redis.call("PEXPIREAT", KEYS[1], string.format("%d", math.ceil(math.max(last, deadline) * 1000)))
end
return string.format("%d,%d,%d", held, others, wanted)
