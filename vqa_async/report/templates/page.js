// What every page has: elements made without markup, so that text stays text; colours; words at the bottom.
const $ = (id) => document.getElementById(id);

function make(tag, name, ...inside) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.append(...inside.filter((one) => one !== null && one !== ""));
  return element;
}

// Controls, and what turns text around, as signs of their own.
function visible(text) {
  return String(text).replace(/[\u0000-\u0008\u000b-\u001f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)))
    .replace(/[\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffe\uffff]/g,
      (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
}

const many = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;

const storage = {
  get(key) {
    try { return localStorage.getItem(key); } catch { return null; }
  },
  set(key, value) {
    try { localStorage.setItem(key, value); return true; } catch { return false; }
  },
};

let toastTimer = 0;
function toast(text) {
  const element = $("toast");
  element.textContent = text;
  element.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { element.hidden = true; }, 6000);
}

function setUpTheme() {
  const button = $("theme");
  const names = { "": "as the system", light: "light", dark: "dark" };
  const marks = { "": "◐", light: "☀", dark: "☾" };
  const show = () => {
    const theme = document.documentElement.dataset.theme || "";
    button.textContent = marks[theme];
    button.setAttribute("aria-label", `Colours: ${names[theme]}`);
    button.title = `Colours: ${names[theme]}`;
  };
  button.addEventListener("click", () => {
    const theme = document.documentElement.dataset.theme || "";
    const next = { "": "light", light: "dark", dark: "" }[theme];
    if (next) document.documentElement.dataset.theme = next;
    else delete document.documentElement.dataset.theme;
    storage.set("vqa-report:theme", next);
    show();
  });
  show();
}
