// Looks once a second how the run stands, and puts what it hears in place. The markup was made, and every text
// in it escaped, by the run itself; the policy of the page lets nothing in it run.
const EVERY_MS = 1000, HIDDEN_MS = 4000, MISSES = 3;
let misses = 0;

function put(id, markup) {
  const parsed = new DOMParser().parseFromString(markup, "text/html");
  $(id).replaceChildren(...parsed.body.childNodes);
}

function say(word, tone, text) {
  if ($("state").textContent !== word) $("state").textContent = word;
  $("state").className = `pill ${tone}`;
  $("said").textContent = text;
  $("said").className = `said ${tone}`;
  $("said").hidden = !text;
}

function show(told) {
  say(told.state, told.tone, told.said);
  $("output").textContent = told.output.split("/").pop() || "A run";
  $("output").title = told.output;
  put("figures", told.figures);
  put("latest", told.latest);
  document.documentElement.dataset.ready = "yes";
}

function lost() {
  say("out of reach", "warn", "The run has ended, or its process cannot be reached; this is the last that it told. "
    + "Look through all of it: vqa-async report OUT.jsonl -o report.html");
}

async function look() {
  try {
    const answer = await fetch("state.json", { cache: "no-store" });
    if (!answer.ok) throw new Error(answer.statusText);
    const told = await answer.json();
    misses = 0;
    show(told);
    if (told.over) return;
  } catch {
    misses += 1;
    if (misses >= MISSES) lost();
  }
  setTimeout(look, document.hidden ? HIDDEN_MS : EVERY_MS);
}

setUpTheme();
look();
