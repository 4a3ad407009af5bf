// The node's widgets as plain values: reading, writing within their limits, and hearing of changes.

export const HEAD = ["yaw", "pitch", "roll"];
export const EXPRESSION = ["smile", "jaw_open", "blink", "brow_up", "gaze_x", "gaze_y"];

export class NodeValues {
  /** inputs: {name: [type, options]} as the server describes them. */
  constructor(node, inputs, app) {
    Object.assign(this, { node, inputs, app });
  }

  /** Of all inputs that have a widget. */
  names() {
    return Object.keys(this.inputs).filter((name) => this.widget(name));
  }

  /** Calls `action` when the person moves a widget. Only this node's widgets are touched. */
  listen(action) {
    for (const name of this.names()) {
      const widget = this.widget(name);
      const before = widget.callback;
      widget.callback = function (...args) {
        const result = before?.apply(this, args);
        action();
        return result;
      };
    }
  }

  widget(name) {
    return this.node.widgets?.find((widget) => widget.name === name);
  }

  /** What the app calls it, in its language. */
  label(name) {
    return (this.widget(name)?.label ?? name).replaceAll("_", " ");
  }

  options(name) {
    return this.inputs[name]?.[1] ?? {};
  }

  isLinked(name) {
    return this.node.inputs?.some((input) => input.widget?.name === name && input.link != null) ?? false;
  }

  get(name) {
    if (this.isLinked(name)) {
      // a primitive wired to the widget: its number counts
      const index = this.node.inputs.findIndex((input) => input.widget?.name === name);
      const value = this.node.getInputNode?.(index)?.widgets?.[0]?.value;
      if (typeof value === typeof this.options(name).default) return value;
    }
    return this.widget(name)?.value ?? this.options(name).default;
  }

  all() {
    return Object.fromEntries(this.names().map((name) => [name, this.get(name)]));
  }

  /** Numbers are rounded to the widget's step and kept within its limits; widgets fed by a link stay as they are. */
  set(changes) {
    for (const [name, wanted] of Object.entries(changes)) {
      const widget = this.widget(name);
      if (!widget || this.isLinked(name)) continue;
      const value = typeof wanted === "number" ? this.fitting(name, wanted) : wanted;
      if (widget.value === value) continue;
      widget.value = value;
      widget.callback?.(value, this.app.canvas, this.node);
    }
    this.node.setDirtyCanvas?.(true, true);
  }

  fitting(name, value) {
    const { min = -Infinity, max = Infinity, step = 0.01 } = this.options(name);
    const rounded = Math.round(value / step) * step;
    return Number(Math.min(max, Math.max(min, rounded)).toFixed(4)) || 0; // no -0
  }

  limits(name) {
    const { min = -Infinity, max = Infinity } = this.options(name);
    return [min, max];
  }

  defaults(names = this.names()) {
    return Object.fromEntries(names.map((name) => [name, this.options(name).default]));
  }
}
