// ak_guard console: everything here is a convenience. With this file blocked, every page still does its whole job.
(() => {
  const root = document.documentElement, body = document.body;
  const $ = (s, e = document) => e.querySelector(s), $$ = (s, e = document) => [...e.querySelectorAll(s)];
  root.classList.add("js");

  // The viewer's zone: told to the server, so that pages are right even without this script next time.
  // The server sets what is chosen instead at the same path.
  try {
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    if (zone && !document.cookie.includes("ak_tz=")) document.cookie = "ak_tz=" + encodeURIComponent(zone) + ";path=/;samesite=lax;max-age=31536000";
  } catch { /* a browser without zones shows UTC */ }

  const live = $("#live");
  const tell = text => { if (live) { live.textContent = ""; setTimeout(() => (live.textContent = text), 30); } };

  // Copy: the button says so itself, and a polite live region repeats it.
  for (const button of $$("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const from = document.getElementById(button.dataset.copy), text = from.value ?? from.textContent;
      try { await navigator.clipboard.writeText(text); } catch {
        const range = document.createRange(); range.selectNodeContents(from);
        getSelection().removeAllRanges(); getSelection().addRange(range); document.execCommand?.("copy");
      }
      const was = [...button.childNodes];
      button.replaceChildren(body.dataset.copied); tell(body.dataset.copied);
      setTimeout(() => button.replaceChildren(...was), 1800);
    });
  }

  // Menus close on Escape and on a press elsewhere; focus returns to the button.
  addEventListener("click", e => $$("details.menu[open]").forEach(d => d.contains(e.target) || (d.open = false)));
  addEventListener("keydown", e => { if (e.key === "Escape") $$("details.menu[open]").forEach(d => { d.open = false; $("summary", d).focus(); }); });

  // A pressed button stays put and says that it was pressed; after a second a line says what is awaited.
  addEventListener("submit", e => {
    const button = e.submitter;
    if (e.defaultPrevented || e.target.method !== "post" || !button) return;
    setTimeout(() => { button.disabled = true; button.dataset.pressed = ""; }, 0);
    setTimeout(() => tell(body.dataset.waiting), 1000);
  });
  addEventListener("pageshow", e => { if (e.persisted) $$("button[data-pressed]").forEach(b => { b.disabled = false; }); });

  // Times that are left go on, by the server's clock. They are never announced.
  const ends = $$("time[data-left]"), ahead = Date.now() - Number(body.dataset.now), spans = body.dataset.spans.split("|");
  const span = seconds => {
    const minutes = Math.ceil(seconds / 60), hours = Math.round(seconds / 3600), days = Math.round(seconds / 86400);
    const said = (at, n, m) => spans[at].replace("%n", n).replace("%m", m);
    if (seconds < 60) return said(0, seconds);
    if (minutes < 60) return said(1, minutes);
    if (minutes < 1440) return minutes % 60 ? said(3, Math.floor(minutes / 60), minutes % 60) : said(2, minutes / 60);
    return hours >= 168 || hours % 24 === 0 ? said(days === 1 ? 5 : 6, days) : said(4, Math.floor(hours / 24), hours % 24);
  };
  const tick = () => ends.forEach(end => {
    const text = span(Math.max(0, Math.ceil((Date.parse(end.dateTime) - Date.now() + ahead) / 1000)));
    if (end.textContent !== text) end.textContent = text;
  });
  if (ends.length) setInterval(tick, 1000);

  // Selecting keys.
  const bulk = $(".bulk"), boxes = $$("tbody .c-sel input"), all = $("#all");
  if (bulk && boxes.length) {
    const count = () => {
      const n = boxes.filter(box => box.checked).length;
      bulk.classList.toggle("on", n > 0);
      $("b", bulk).textContent = body.dataset.selected.replace("%n", n);
      if (all) { all.checked = n === boxes.length; all.indeterminate = n > 0 && n < boxes.length; }
    };
    if (all) { all.hidden = false; all.addEventListener("change", () => { boxes.forEach(box => (box.checked = all.checked)); count(); }); }
    boxes.forEach(box => box.addEventListener("change", count));
    count();
  }

  // Filters apply as they change; the button that does it without script leaves.
  const filters = $("form.filters");
  if (filters) { $$("select", filters).forEach(s => s.addEventListener("change", () => filters.requestSubmit())); $("#f-owner", filters)?.addEventListener("change", () => filters.requestSubmit()); const apply = $(".nojs", filters); if (apply) { apply.classList.add("vh"); apply.tabIndex = -1; } }

  // Keys for hands that stay on the keyboard. None of them changes anything.
  let at = -1;
  addEventListener("keydown", e => {
    if (e.ctrlKey || e.metaKey || e.altKey || root.dataset.keys === "off" || e.target.closest?.("input,select,textarea,[contenteditable]")) return;
    const rows = $$(".keys tbody tr");
    if (e.key === "/" && $("#q")) { e.preventDefault(); $("#q").focus(); }
    else if (e.key === "n" && $("[data-new]")) $("[data-new]").click();
    else if ((e.key === "j" || e.key === "k") && rows.length) { at = Math.max(0, Math.min(rows.length - 1, at + (e.key === "j" ? 1 : -1))); $(".name", rows[at]).focus(); }
    else if (e.key === "x" && at >= 0) $(".c-sel input", rows[at])?.click();
    else if (e.key === "?") $("#keys-help")?.togglePopover?.();
  });

  // Create and edit: the server reads what is typed and says it back. It says the same on "Check" and on save.
  const form = $("form[data-check]");
  if (form) {
    let asked = 0, timer;
    const words = $("#words"), touched = new Set();
    const ask = async () => {
      const mine = ++asked, data = new URLSearchParams();
      for (const [name, value] of new FormData(form)) if (name !== "key" && name !== "do") data.append(name, value);
      try {
        const answer = await fetch(form.dataset.check, { method: "POST", body: data, credentials: "same-origin" });
        if (!answer.ok || mine !== asked) return;
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        // What nobody has touched yet is not wrong yet.
        const env = $("#env-says"), said = $("#env-says", page);
        if (env && said) env.replaceChildren(...said.childNodes);
        said?.remove();
        $$("[data-problem]", page).forEach(line => touched.has(line.dataset.problem) || line.remove());
        words.replaceChildren(...page.body.childNodes);
        const wrong = new Set($$("[data-problem]", words).map(line => line.dataset.problem));
        $$("input,textarea,select", form).forEach(field => {
          if (touched.has(field.id)) field.toggleAttribute("aria-invalid", wrong.has(field.id));
          if (wrong.has(field.id)) field.setAttribute("aria-invalid", "true");
        });
      } catch { /* what was said last stays until the server can be asked again */ }
    };
    form.addEventListener("input", e => { touched.add(e.target.id); clearTimeout(timer); timer = setTimeout(ask, 250); });
    form.addEventListener("change", e => { touched.add(e.target.id); clearTimeout(timer); timer = setTimeout(ask, 50); });
    const name = $("#name");
    $$("[data-name]", form).forEach(b => { b.hidden = false; b.addEventListener("click", () => { name.value = b.dataset.name; name.dispatchEvent(new Event("input", { bubbles: true })); name.focus(); }); });
    $$("[data-clear]", form).forEach(b => { b.hidden = false; b.addEventListener("click", () => { $$("input", b.parentElement).forEach(i => { i.value = ""; }); form.dispatchEvent(new Event("change")); }); });
  }
})();
