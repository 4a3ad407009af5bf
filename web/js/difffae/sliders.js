// The node's numbers as rows beside the picture, in groups that fold. They show and set the node's own widgets, which stay what is saved.
import { element } from "./dom.js";

const GROUPS = ["pose", "eyes", "brows", "mouth", "light"]; // in this order
const OPEN = ["pose", "light"]; // at first
const STORE = "difffae.groups";

function remembered() {
  try {
    return JSON.parse(localStorage.getItem(STORE)) ?? {};
  } catch {
    return {};
  }
}

export class Sliders {
  /** values: NodeValues. handlers: changed(), held(whether a slider is being dragged), done() after a step of the person's. text(key) -> string. */
  constructor(values, handlers, text) {
    Object.assign(this, { values, handlers, text, rows: new Map() });
    this.element = element("div.difffae-sliders", { "data-capture-wheel": "true" });
    for (const group of GROUPS) {
      const names = values.names().filter((name) => values.options(name).difffae_group === group);
      if (names.length) this.element.append(this.group(group, text(`group_${group}`), names));
    }
  }

  group(name, title, names) {
    const fold = element("details.difffae-group", {}, element("summary", { textContent: title }), ...names.map((one) => this.row(one)));
    fold.open = remembered()[name] ?? OPEN.includes(name);
    fold.addEventListener("toggle", () => {
      try {
        localStorage.setItem(STORE, JSON.stringify({ ...remembered(), [name]: fold.open }));
      } catch {
        // a browser that keeps nothing
      }
    });
    return fold;
  }

  row(name) {
    const { values } = this;
    const options = values.options(name);
    const label = values.label(name).replace(/^light /, ""); // the group says so
    const lamp = options.difffae_group === "light" && name !== "relight"; // to move a lamp is to switch it on
    const set = (value) => {
      values.set({ [name]: value, ...(lamp ? { relight: true } : {}) });
      this.handlers.changed();
    };
    const reset = (event) => {
      event.preventDefault();
      set(options.default);
      this.handlers.done();
    };
    if (typeof options.default === "boolean") {
      const box = element("input", { type: "checkbox", onchange: () => (set(box.checked), this.handlers.done()) });
      const row = element("label.difffae-slider", { title: options.tooltip ?? "" }, element("span", { textContent: label }), box);
      this.rows.set(name, { row, box });
      return row;
    }
    const { min = -1, max = 1, step = 0.01 } = options;
    const range = element("input", { type: "range", min, max, step, "aria-label": label });
    const number = element("input", { type: "number", min, max, step, "aria-label": label });
    range.oninput = () => {
      this.handlers.held(true);
      set(Number(range.value));
    };
    range.onchange = () => {
      this.handlers.held(false);
      this.handlers.done();
    };
    number.onchange = () => (set(Number(number.value)), this.handlers.done());
    const name_ = element("span", { textContent: label });
    for (const part of [name_, range]) part.addEventListener("dblclick", reset);
    const row = element("div.difffae-slider", { title: options.tooltip ?? "" }, name_, element("span.difffae-track", {}, range), number);
    row.addEventListener("pointerdown", (event) => event.stopPropagation()); // the node is not dragged by them
    this.rows.set(name, { row, range, number });
    return row;
  }

  /** The widgets' values; bounds: {name: [low, high]} of what turns can reach, or null. */
  show(bounds) {
    const lampOff = !this.values.get("relight");
    for (const [name, { row, box, range, number }] of this.rows) {
      const value = this.values.get(name);
      const linked = this.values.isLinked(name);
      row.classList.toggle("off", lampOff && this.values.options(name).difffae_group === "light" && name !== "relight");
      row.classList.toggle("changed", value !== this.values.options(name).default);
      for (const input of [box, range, number]) if (input) input.disabled = linked;
      if (box) box.checked = Boolean(value);
      else if (range) {
        range.value = value;
        if (document.activeElement !== number) number.value = Number(value);
        this.limit(name, row, range, bounds?.[name]);
      }
    }
  }

  /** Shades the part of a track beyond a limit. */
  limit(name, row, range, bounds) {
    const tip = this.values.options(name).tooltip ?? "";
    row.title = bounds ? `${tip}\n${this.text("limit")} ${bounds.map((angle) => `${Math.round(angle)}°`).join(" … ")}` : tip;
    row.classList.toggle("limited", Boolean(bounds));
    if (!bounds) return;
    const share = (value) => `${Math.min(100, Math.max(0, ((value - range.min) / (range.max - range.min)) * 100))}%`;
    row.style.setProperty("--low", share(bounds[0]));
    row.style.setProperty("--high", share(bounds[1]));
  }
}
