// Which records are shown. A filter is a name, its choices, and whether a record passes one of them.
const STATES = {
  "": ["All records", () => true],
  answered: ["Answered", (r) => !r.error],
  failed: ["Failed", (r) => r.error],
  flagged: ["Flagged", (r) => r.flags.size],
  clean: ["Without flags", (r) => !r.error && !r.flags.size],
  bare: ["Without pairs", (r) => !r.error && !r.pairs.length],
};
const DECIDED = {
  "": ["Any decision", () => true],
  undecided: ["Undecided", (r) => !r.error && !isDecided(r)],
  accept: ["Accepted", (r) => decisionOn(r) === "accept" || r.pairs.some((p) => decisionOnPair(r, p) === "accept")],
  reject: ["Rejected", (r) => decisionOn(r) === "reject" || r.pairs.some((p) => decisionOnPair(r, p) === "reject")],
};
const chosen = {};
let terms = [];

function choices(facet, all, passes) {
  const found = { "": [all, () => true] };
  for (const [name, n] of [...facets[facet]].sort((a, b) => b[1] - a[1])) {
    found[name] = [`${visible(name)} (${n.toLocaleString("en")})`, (r) => passes(r, name)];
  }
  return found;
}

function allFilters() {
  return {
    state: ["Records", STATES],
    decided: ["Decisions", DECIDED],
    flag: ["Flag", choices("flag", "Any flag", (r, name) => r.flags.has(name))],
    failure: ["Failure", choices("failure", "Any failure", (r, name) => r.error?.code === name)],
    style: ["Style", choices("style", "All styles", (r, name) => r.style === name)],
    model: ["Model", choices("model", "All models", (r, name) => r.model === name)],
  };
}

const isAlwaysShown = ["state", "decided"];

function setUpFilters(whenChanged) {
  for (const [name, [label, found]] of Object.entries(allFilters())) {
    const values = Object.keys(found);
    if (!isAlwaysShown.includes(name) && values.length < (name === "flag" || name === "failure" ? 2 : 3)) continue;
    const select = make("select");
    select.name = name;
    select.setAttribute("aria-label", label);
    for (const value of values) select.append(new Option(found[value][0], value));
    chosen[name] = found[""][1];
    select.addEventListener("change", () => {
      chosen[name] = found[select.value][1];
      select.classList.toggle("on", Boolean(select.value));
      whenChanged();
    });
    $("filters").append(select);
  }
  $("search").addEventListener("input", () => {
    const text = $("search").value.toLowerCase();
    terms = [...text.matchAll(/"([^"]+)"?|(\S+)/g)].map((found) => found[1] ?? found[2]);
    $("search").classList.toggle("on", terms.length > 0);
    whenChanged();
  });
  $("tools").addEventListener("submit", (event) => event.preventDefault());
}

const isFiltered = () => terms.length > 0 || [...document.querySelectorAll("#filters select")].some((select) => select.value);

function clearFilters() {
  $("search").value = "";
  $("search").dispatchEvent(new Event("input"));
  for (const select of document.querySelectorAll("#filters select")) {
    select.value = "";
    select.dispatchEvent(new Event("change"));
  }
}

// The records that pass. Few are gone through at once; many in slices, so that typing goes on meanwhile, and
// what is typed next ends what was looked for before.
const AT_ONCE = 12000, SLICE_MS = 24;
let search = 0;

function match(whenFound) {
  const own = ++search, tests = Object.values(chosen), found = [];
  const passes = (r) => tests.every((test) => test(r)) && terms.every((term) => r.folded.includes(term));
  let at = 0;
  const slice = () => {
    if (own !== search) return;
    document.documentElement.dataset.searching = "yes";
    const until = records.length > AT_ONCE ? performance.now() + SLICE_MS : Infinity;
    while (at < records.length && performance.now() < until) {
      for (const end = Math.min(at + 100, records.length); at < end; at += 1) if (passes(records[at])) found.push(records[at]);
    }
    if (at < records.length) setTimeout(slice);
    else {
      delete document.documentElement.dataset.searching;
      whenFound(found);
    }
  };
  slice();
}

// A text with what was searched for marked in it.
function marked(text) {
  const shown = visible(text), folded = shown.toLowerCase();
  const words = terms.filter((term) => folded.includes(term));
  if (!words.length || folded.length !== shown.length) return [shown];
  const parts = [];
  let from = 0;
  while (from < shown.length) {
    const next = words.map((word) => [folded.indexOf(word, from), word.length]).filter(([at]) => at >= 0)
      .sort((a, b) => a[0] - b[0] || b[1] - a[1])[0];
    if (!next) break;
    parts.push(shown.slice(from, next[0]), make("mark", "", shown.slice(next[0], next[0] + next[1])));
    from = next[0] + next[1];
  }
  return [...parts, shown.slice(from)];
}
