// The panel inside a node: picture, light ball, buttons. It knows the node only through NodeValues and three functions.
import { Ball } from "./ball.js";
import { askForText, copyText, readText } from "./clipboard.js";
import { element, iconButton } from "./dom.js";
import { Pictures } from "./pictures.js";
import { PRESET_NAMES, presetValues } from "./presets.js";
import { Sliders } from "./sliders.js";
import { makeTurnable } from "./turn.js";
import { EXPRESSION, HEAD } from "./values.js";

const FORMAT = "difffae-attributes/1";
const SIDES = [200, 420]; // least height of the square, following the width in between
const [TOP, GAP] = [2, 6]; // as in style.js
const WIDE = 480; // from this width on the sliders stand beside the picture, which takes SHARE of it; below, under it
const SHARE = 0.55;
const leastSide = (width) => Math.round(Math.min(SIDES[1], Math.max(SIDES[0], width >= WIDE ? SHARE * width : width)));
const NOTE_TIME = 2000; // milliseconds that a message stays; errors stay until the next picture

export class Panel {
  /** values: NodeValues. fetch(route, body, signal) -> Response. run(): queues the node's branch. recordStep(): one undo step.
   *  undo(): takes one back. grow(): makes the node as high as its widgets need. text(key) -> string. */
  constructor({ values, fetch, run, recordStep, undo, grow, text }) {
    Object.assign(this, { values, fetch, run, recordStep, undo, grow, text });
    this.scene = null;
    this.style = "photo";
    this.frame = 0;
    this.untouched = false;
    this.visible = false;
    this.build();
    this.pictures = new Pictures(fetch, {
      wish: () => this.wish(),
      show: (url, light) => this.showPicture(url, light),
      fail: (message) => this.note(message || this.text("offline"), true),
      gone: () => this.forget(),
      busy: (on) => (this.busy.hidden = !on),
    });
    values.listen(() => this.changed());
    this.watchSize = new ResizeObserver(() => this.fit());
    this.watchSize.observe(this.element);
    this.watchSight = new IntersectionObserver((entries) => {
      this.visible = entries.at(-1).isIntersecting;
      if (this.visible) this.changed();
    });
    this.watchSight.observe(this.element);
    this.refresh();
  }

  destroy() {
    this.pictures.destroy();
    this.watchSize.disconnect();
    this.watchSight.disconnect();
    clearTimeout(this.noteTimer);
    this.element.remove();
  }

  // ---- what is shown

  /** A run of the node brought a face: {key, frames, photo, the face's own angles, light and expression}. */
  setScene(scene) {
    this.loading = false;
    if (scene.key !== this.scene?.key) this.pictures.reset();
    this.scene = scene;
    this.frame = Math.min(this.frame, scene.frames - 1);
    this.refresh();
    this.changed();
  }

  /** After undo or a change of workflow. */
  restore(scene) {
    if (scene && scene.key !== this.scene?.key) this.setScene(scene);
    else this.changed();
  }

  /** The server no longer knows the key. */
  forget() {
    this.scene = null;
    this.pictures.reset();
    this.refresh();
  }

  runEnded(error) {
    if (!this.loading) return;
    this.loading = false;
    if (!this.scene) this.note(error || this.text("notLoaded"), true);
    this.refresh();
  }

  /** A widget may have moved. */
  changed() {
    if (this.scheduled) return;
    this.scheduled = true;
    queueMicrotask(() => {
      this.scheduled = false;
      this.showState();
      this.pictures.update();
    });
  }

  wish() {
    if (!this.scene || !this.visible) return null;
    const wish = { key: this.scene.key, style: this.style, frame: this.frame, values: this.untouched ? {} : this.values.all() };
    return this.dragging ? { ...wish, draft: true } : wish;
  }

  /** light: [azimuth, elevation] of a pasted light that the picture is in, or null. */
  showPicture(url, light) {
    this.pastedLight = light;
    this.showState();
    this.image.src = url;
    this.image.hidden = false;
    if (this.noteBox.classList.contains("error")) this.noteBox.hidden = true;
  }

  /** Everything that depends on the scene. */
  refresh() {
    const { scene, text } = this;
    const wasStale = !scene && !this.image.hidden;
    this.stage.classList.toggle("ready", Boolean(scene));
    this.stage.classList.toggle("stale", wasStale);
    this.cover.hidden = Boolean(scene);
    this.coverText.textContent = text(wasStale ? "gone" : "empty");
    this.loadButton.disabled = Boolean(this.loading);
    this.loadButton.textContent = text(this.loading ? "loading" : "load");
    this.ballCanvas.hidden = !scene;
    const photo = scene?.photo ?? true;
    this.photoButton.disabled = !photo;
    this.photoButton.title = text(photo ? "photoTip" : "noPhotoTip");
    for (const button of [this.beforeButton, this.copyButton]) button.disabled = !scene;
    this.framesRow.hidden = !(scene?.frames > 1);
    this.frameSlider.max = (scene?.frames ?? 1) - 1;
    this.fit();
    this.showState();
  }

  /** Everything that depends on the values. */
  showState() {
    const { values, scene } = this;
    const on = Boolean(values.get("relight"));
    const pasted = values.get("pasted") ? this.pastedLight : null;
    this.pastedChip.hidden = !values.get("pasted");
    this.sliders.show(this.bounds());
    this.ball.draw({
      azimuth: on ? values.get("light_azimuth") : pasted?.[0] ?? scene?.light_azimuth ?? 0,
      elevation: on ? values.get("light_elevation") : pasted?.[1] ?? scene?.light_elevation ?? 0,
      strength: on ? values.get("light_strength") : 0.6,
      on,
    });
    const clay = this.style === "clay" || scene?.photo === false;
    this.photoButton.classList.toggle("on", !clay);
    this.clayButton.classList.toggle("on", clay);
    this.photoButton.setAttribute("aria-pressed", String(!clay));
    this.clayButton.setAttribute("aria-pressed", String(clay));
    this.frameSlider.value = this.frame;
    this.frameLabel.textContent = `${this.frame + 1} / ${scene?.frames ?? 1}`;
    this.presetList.value = this.presetNow();
  }

  /** How far the sliders of the head can turn it, {name: [low, high]}; null without a limit. */
  bounds() {
    const { scene, values } = this;
    if (!scene?.bounds || values.get("beyond_limit") || values.get("pasted")) return null;
    const from = (name) => (values.get("absolute") ? 0 : scene[name]);
    return Object.fromEntries(HEAD.map((name) => [name, scene.bounds[name].map((angle) => angle - from(name))]));
  }

  /** The preset that the sliders stand at, or "". */
  presetNow() {
    const own = this.scene?.expression;
    const stands = (wanted) => EXPRESSION.every((axis) => this.values.get(axis) === this.values.fitting(axis, wanted[axis]));
    if (EXPRESSION.every((axis) => this.values.get(axis) === 0)) return "";
    return PRESET_NAMES.find((name) => stands(presetValues(name, own, this.values.get("absolute")))) ?? "";
  }

  note(message, error = false) {
    clearTimeout(this.noteTimer);
    this.noteBox.textContent = this.noteBox.title = message;
    this.noteBox.classList.toggle("error", error);
    this.noteBox.hidden = false;
    if (!error) this.noteTimer = setTimeout(() => (this.noteBox.hidden = true), NOTE_TIME);
  }

  readout(names, on) {
    this.readoutBox.classList.toggle("on", on);
    const degrees = (value) => `${value > 0 ? "+" : ""}${Math.round(value * 10) / 10}°`;
    this.readoutBox.textContent = names.map(([label, widget]) => `${this.text(label)} ${degrees(this.values.get(widget))}`).join("   ");
  }

  // ---- sizes

  /** Height in CSS pixels that the panel needs at a width, at least. */
  heightFor(width) {
    const under = width >= WIDE ? 0 : this.sliders.element.scrollHeight + GAP;
    return TOP + leastSide(width) + under + GAP + (this.bar.offsetHeight || 28) + (this.framesRow.hidden ? 0 : 20 + GAP);
  }

  fit() {
    const width = this.element.clientWidth;
    if (!width) return;
    this.element.style.setProperty("--difffae-room", `${leastSide(width)}px`);
    this.element.classList.toggle("wide", width >= WIDE);
    this.grow();
  }

  // ---- what the person does

  apply(changes) {
    this.values.set(changes);
    this.changed();
    this.recordStep();
  }

  async load() {
    this.loading = true;
    this.noteBox.hidden = true;
    this.refresh();
    try {
      if ((await this.run()) === false) this.runEnded();
    } catch (error) {
      this.runEnded(String(error?.message ?? error));
    }
  }

  setStyle(style) {
    this.style = style;
    this.changed();
  }

  /** While a hand drags, pictures are drafts; the last one is not. */
  drag(on) {
    this.dragging = on;
    if (!on) this.changed();
  }

  hold(on) {
    if (this.untouched === on) return;
    this.untouched = on;
    this.beforeButton.classList.toggle("on", on);
    this.changed();
  }

  async copy() {
    try {
      const values = this.values.all();
      const answer = await this.fetch("/difffae/attributes", { key: this.scene.key, frame: this.frame, values });
      if (answer.status === 410) return this.forget();
      const json = await answer.text();
      if (!answer.ok) return this.note(json, true);
      if (await copyText(json)) this.note(this.text("copied"));
      else await askForText(this.stage, this.text("copyHere"), this.text, json);
    } catch (error) {
      this.note(String(error?.message ?? error), true);
    }
  }

  async paste() {
    const text = (await readText()) ?? (await askForText(this.stage, this.text("pasteHere"), this.text));
    if (text === null) return;
    let format;
    try {
      format = JSON.parse(text)?.format;
    } catch {
      // said below
    }
    if (format !== FORMAT) return this.note(this.text("notAttributes"), true);
    this.apply({ pasted: text.trim() });
    this.note(this.text("pasted"));
  }

  // ---- elements

  build() {
    const { text } = this;
    this.image = element("img", { alt: "", draggable: false, hidden: true });
    this.loadButton = element("button.primary", { type: "button", title: text("loadTip"), onclick: () => this.load() });
    this.coverText = element("div");
    this.cover = element("div.difffae-cover", {}, this.coverText, this.loadButton);
    this.noteBox = element("div.difffae-note", { role: "status", hidden: true });
    this.readoutBox = element("div.difffae-readout", { "aria-hidden": "true" });
    this.busy = element("div.difffae-busy", { hidden: true });
    this.ballCanvas = element("canvas.difffae-ball", { tabIndex: 0, title: text("ball"), role: "application", "aria-label": text("ball") });
    this.stage = element(
      "div.difffae-stage",
      { tabIndex: 0, role: "application", "aria-label": text("picture") },
      ...[this.image, this.cover, this.readoutBox, this.ballCanvas, this.noteBox, this.busy],
    );
    this.frameSlider = element("input", { type: "range", min: 0, max: 0, step: 1, title: text("frame"), "aria-label": text("frame") });
    this.frameSlider.oninput = () => {
      this.frame = Number(this.frameSlider.value);
      this.changed();
    };
    this.frameLabel = element("span");
    this.framesRow = element("div.difffae-frames", { hidden: true }, this.frameSlider, this.frameLabel);
    this.buildBar();
    this.sliders = new Sliders(this.values, { changed: () => this.changed(), held: (on) => this.drag(on), done: () => this.recordStep() }, text);
    this.sliders.element.addEventListener("toggle", () => this.fit(), true);
    const main = element("div.difffae-main", {}, element("div.difffae-room", {}, this.stage), this.sliders.element);
    this.element = element("div.difffae-adjust", {}, main, this.framesRow, this.bar);
    for (const type of ["keydown", "keyup", "paste", "copy"]) {
      // the app's shortcuts are not meant while a field of the panel is typed in
      this.element.addEventListener(type, (event) => event.target.matches("textarea, select, input") && event.stopPropagation());
    }
    this.buildTurning();
    this.buildBall();
  }

  buildBar() {
    const { text } = this;
    this.photoButton = element("button", { type: "button", textContent: text("photo"), onclick: () => this.setStyle("photo") });
    this.clayButton = element("button", { type: "button", textContent: text("clay"), title: text("clayTip"), onclick: () => this.setStyle("clay") });
    this.presetList = element(
      "select",
      { title: text("presetsTip"), "aria-label": text("presetsTip") },
      element("option", { value: "", textContent: text("presets"), disabled: true, hidden: true }),
      ...PRESET_NAMES.map((name) => element("option", { value: name, textContent: text(name) })),
    );
    this.presetList.onchange = () => this.apply(presetValues(this.presetList.value, this.scene?.expression, this.values.get("absolute")));
    this.beforeButton = iconButton("before", text("before"));
    this.beforeButton.classList.add("difffae-before");
    const hold = (on) => (event) => {
      if (event.type.startsWith("key") && event.key !== " " && event.key !== "Enter") return;
      event.stopPropagation();
      if (event.type.startsWith("key")) event.preventDefault();
      if (event.type === "pointerdown") this.beforeButton.setPointerCapture(event.pointerId);
      this.hold(on);
    };
    for (const type of ["pointerdown", "keydown"]) this.beforeButton.addEventListener(type, hold(true));
    for (const type of ["pointerup", "pointercancel", "keyup", "blur"]) this.beforeButton.addEventListener(type, hold(false));
    this.copyButton = iconButton("copy", text("copy"), () => this.copy());
    this.pasteButton = iconButton("paste", text("paste"), () => this.paste());
    this.undoButton = iconButton("undo", text("undo"), () => this.undo());
    this.pastedChip = element("button.difffae-chip", { type: "button", title: text("pastedTip"), textContent: text("pastedChip"), hidden: true });
    this.pastedChip.onclick = () => this.apply({ pasted: "" });
    this.resetButton = iconButton("reset", text("reset"), () => this.apply(this.values.defaults()));
    this.bar = element(
      "div.difffae-bar",
      {},
      element("div.difffae-style", { role: "group" }, this.photoButton, this.clayButton),
      ...[this.presetList, this.beforeButton, this.copyButton, this.pasteButton, this.pastedChip, this.undoButton, this.resetButton],
    );
  }

  buildTurning() {
    const names = HEAD.map((name) => [name, name]);
    const finish = () => {
      this.drag(false);
      this.stage.classList.remove("turning");
      this.readout(names, false);
      this.recordStep();
    };
    makeTurnable(this.stage, this.values, {
      ready: () => Boolean(this.scene),
      start: () => this.stage.classList.add("turning"),
      move: () => {
        this.dragging = true;
        this.readout(names, true);
      },
      end: finish,
      reset: () => this.apply(this.values.defaults(HEAD)),
    });
  }

  buildBall() {
    const names = [
      ["azimuth", "light_azimuth"],
      ["elevation", "light_elevation"],
    ];
    const set = (light_azimuth, light_elevation) => {
      this.values.set({ relight: true, light_azimuth, light_elevation });
      this.changed();
      this.readout(names, true);
    };
    let before = null; // the light before the first press of a double click
    let pressed = -Infinity;
    this.ball = new Ball(this.ballCanvas, {
      start: () => {
        if (performance.now() - pressed > 600) before = { light_azimuth: this.values.get("light_azimuth"), light_elevation: this.values.get("light_elevation") };
        pressed = performance.now();
      },
      move: (...angles) => {
        this.dragging = true;
        set(...angles);
      },
      end: () => {
        this.drag(false);
        this.readout(names, false);
        this.recordStep();
      },
      reset: () => this.apply({ relight: false, ...before }),
      nudge: (azimuth, elevation) => {
        const on = this.values.get("relight");
        const from = on ? { azimuth: this.values.get("light_azimuth"), elevation: this.values.get("light_elevation") } : { azimuth: this.scene.light_azimuth, elevation: this.scene.light_elevation };
        set(((((from.azimuth + azimuth + 180) % 360) + 360) % 360) - 180, from.elevation + elevation);
        this.readout(names, false);
        this.recordStep();
      },
    });
  }
}
