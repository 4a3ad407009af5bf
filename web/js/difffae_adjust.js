// "Edit by hand": the sliders and the preview inside Adjust Face Attributes (DiffFAE) and Edit Face, and inside every other node of the pack that has its
// numbers as inputs. One panel per node; everything else is in difffae/.
import { app } from "/scripts/app.js";
import { api } from "/scripts/api.js";
import { Panel } from "./difffae/panel.js";
import { translate } from "./difffae/texts.js";
import { addStyle } from "./difffae/style.js";
import { NodeValues } from "./difffae/values.js";

const EDIT = "DiffFAEEditFace";
const OWN = ["diffusion", "face", "all_faces", "strength", "diffusion_seed", "checkpoint"]; // its widgets that are no numbers of a face
const OUTPUT = "difffae_preview";
const WIDGET = "difffae_preview"; // name of the widget; it is never serialised
const SIZE = [620, 0]; // of a new node; the height follows from the widgets

const panels = new Map(); // node -> Panel
const places = new Map(); // id of a node that is gone -> what held its panel
const described = new Map(); // type of node -> {name: [type, options]} of its widgets, as the server describes them

function show(node, output) {
  const scene = output?.[OUTPUT]?.[0];
  if (scene?.key) panels.get(node)?.setScene(scene);
}

/** What the app remembers of a node's last run: undo and switching between workflows make new nodes. In subgraphs it is filed under
 *  the subgraph's id, too. */
function stored(node) {
  const outputs = app.nodeOutputs ?? {};
  const output = outputs[String(node.id)] ?? outputs[`${node.graph?.id}:${node.id}`];
  return output?.[OUTPUT]?.[0];
}

/** Id that the queue knows the node by: "3", or "7:3" inside subgraph node 7. */
function executionId(node, graph = app.rootGraph ?? app.graph, prefix = "") {
  if (!node.graph || node.graph === graph) return `${prefix}${node.id}`;
  for (const other of graph?.nodes ?? []) {
    const found = other.subgraph && executionId(node, other.subgraph, `${prefix}${other.id}:`);
    if (found) return found;
  }
  return prefix ? null : String(node.id);
}

/** Runs the node and what it needs, not the rest of the workflow. What a node shows that runs others inside it is not told again if
 *  nothing has changed, so that it is asked for. */
async function runBranch(node) {
  if (node.comfyClass === EDIT) await api.fetchApi("/difffae/again", { method: "POST" });
  return app.queuePrompt(0, 1, [executionId(node)]);
}

/** On the canvas a node as small as an old workflow says would let the panel hang out of it. Nodes 2.0 grows by itself. */
function grow(node) {
  if (globalThis.LiteGraph?.vueNodesMode || !node.graph) return;
  const least = node.computeSize()[1];
  if (node.size[1] < least) node.setSize([node.size[0], least]);
}

/** The panel has rows of its own for the numbers, so their widgets are hidden as advanced ones are; those with a wire stay. The canvas gives
 *  advanced widgets their room even where it does not draw them: without this the panel would lie far below, and a node in Nodes 2.0, which
 *  starts as high as the canvas would draw it, would be half empty. The node's menu shows them all. */
function foldAdvanced(node, values) {
  for (const widget of node.widgets ?? []) {
    if (!described.get(node.comfyClass)?.[widget.name]?.[1]?.advanced) continue;
    widget.advanced = true;
    const hidden = () => !node.showAdvanced && !values.isLinked(widget.name);
    Object.defineProperty(widget, "hidden", { configurable: true, enumerable: true, get: hidden, set() {} });
    foldVisibility(widget, hidden);
  }
}

/** Newer pages (frontend 1.58; 1.47 does not) lay nodes out by this record of a widget instead of by `hidden`. */
function foldVisibility(widget, hidden) {
  let kind = Object.getPrototypeOf(widget);
  while (kind && !Object.hasOwn(kind, "visibility")) kind = Object.getPrototypeOf(kind);
  const own = kind && Object.getOwnPropertyDescriptor(kind, "visibility").get;
  if (!own) return;
  const get = () => {
    const found = own.call(widget);
    return hidden() ? { ...found, suppression: { ...found.suppression, byExtension: true } } : found;
  };
  Object.defineProperty(widget, "visibility", { configurable: true, enumerable: true, get });
}

/** Undo makes nodes anew. In Nodes 2.0 newer pages (frontend 1.58) then keep what held the old node's panel, and leave it empty. */
function takePlace(node, panel, tries = 20) {
  if (panel.element.isConnected || panels.get(node) !== panel || !tries) return;
  const place = places.get(String(node.id));
  if (place?.isConnected && !place.childElementCount) place.append(panel.element);
  else setTimeout(() => takePlace(node, panel, tries - 1), 100);
}

/** One step for Ctrl+Z. */
function recordStep() {
  const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
  (tracker?.captureCanvasState ?? tracker?.checkState)?.call(tracker);
}

/** On the canvas the widget lies above the graph: hand it the wheel and the middle button. Nodes 2.0 does so itself. */
function letCanvasThrough(element) {
  const usesCanvas = () => !globalThis.LiteGraph?.vueNodesMode;
  const scrolls = (list) => list && list.scrollHeight > list.clientHeight;
  const pass = (type, wanted, method) =>
    element.addEventListener(type, (event) => {
      if (!usesCanvas() || !wanted(event)) return;
      if (type === "wheel" && scrolls(event.target.closest(".difffae-sliders"))) return;
      event.preventDefault();
      app.canvas?.[method]?.(event);
    });
  pass("wheel", () => true, "processMouseWheel");
  pass("pointerdown", (event) => event.button === 1, "processMouseDown");
  pass("pointermove", (event) => (event.buttons & 4) === 4, "processMouseMove");
  pass("pointerup", (event) => event.button === 1, "processMouseUp");
}

function attach(node) {
  const text = translate(app.extensionManager?.setting?.get?.("Comfy.Locale") ?? navigator.language);
  const numbers = Object.entries(described.get(node.comfyClass)).filter(([name]) => node.comfyClass !== EDIT || !OWN.includes(name));
  const values = new NodeValues(node, Object.fromEntries(numbers), app);
  const panel = new Panel({
    values,
    fetch: (route, body, signal) =>
      api.fetchApi(route, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal }),
    run: () => runBranch(node),
    recordStep,
    undo: () => app.extensionManager?.command?.execute?.("Comfy.Undo"),
    grow: () => grow(node),
    text: (key) => text(key === "empty" && node.comfyClass === EDIT ? "emptyEdit" : key),
  });
  panels.set(node, panel);
  foldAdvanced(node, values);

  const width = () => (node.size?.[0] ?? SIZE[0]) - 20;
  const widget = node.addDOMWidget(WIDGET, "difffae_preview", panel.element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => panel.heightFor(width()) + 20, // the canvas keeps a margin of 10 around such a widget
  });
  widget.serialize = false; // options.serialize keeps it out of prompts, this out of workflows
  letCanvasThrough(panel.element);

  const chain = (name, after) => {
    const before = node[name];
    node[name] = function (...args) {
      const result = before?.apply(this, args);
      after(...args);
      return result;
    };
  };
  chain("onExecuted", (output) => show(node, output));
  chain("onConfigure", () => {
    queueMicrotask(() => panels.get(node)?.restore(stored(node)));
    if (globalThis.LiteGraph?.vueNodesMode) setTimeout(() => takePlace(node, panel));
  });
  chain("onRemoved", () => {
    panels.delete(node);
    places.set(String(node.id), panel.element.parentElement);
    panel.destroy();
  });
  node.setSize?.([Math.max(SIZE[0], node.size[0]), node.size[1]]); // how high it must be depends on its width
  node.setSize?.([node.size[0], node.computeSize()[1]]);
}

const each = (action) => panels.forEach((panel, node) => action(panel, node));

app.registerExtension({
  name: "DiffFAE.AdjustAttributes",
  setup() {
    addStyle();
    api.addEventListener("graphChanged", () => each((panel) => panel.changed()));
    api.addEventListener("execution_success", () => each((panel) => panel.runEnded()));
    api.addEventListener("execution_interrupted", () => each((panel) => panel.runEnded()));
    api.addEventListener("execution_error", ({ detail }) => each((panel) => panel.runEnded(detail?.exception_message)));
  },
  beforeRegisterNodeDef(_, data) {
    const inputs = { ...data.input?.required, ...data.input?.optional };
    if (data.name.startsWith("DiffFAE") && inputs.yaw?.[1]?.difffae_group) described.set(data.name, inputs);
  },
  nodeCreated(node) {
    if (described.has(node.comfyClass)) attach(node);
  },
  onNodeOutputsUpdated() {
    each((panel, node) => panel.restore(stored(node)));
  },
});
