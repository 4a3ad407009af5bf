// What a node of this pack was told in its last run (nodes/wires.py) stays on it, and on subgraph nodes around it, until it runs again. The app's
// own widget for such texts goes when the run ends (frontend 1.58) or stays for good (1.47).
import { app } from "/scripts/app.js";
import { api } from "/scripts/api.js";
import { element } from "./difffae/dom.js";
import { addStyle } from "./difffae/style.js";

const APPS = "$$node-text-preview"; // name of the app's widget
const WIDGET = "difffae_warning"; // of ours; it is never serialised
const [LETTER, LINE, PADDING, MARGIN] = [5.8, 15, 8, 20]; // pixels: mean width, height, of the box, of the canvas around such a widget
const boxes = new WeakMap(); // node -> its widget, which subgraph nodes do not list: theirs are the promoted ones alone
const told = new WeakMap(); // node -> Map of ids of the nodes that were told, itself or inside it, to their texts

/** The node that the queue knows by an id, "3" or "7:3" inside subgraph node 7, last; before it the subgraph nodes around it. */
function pathTo(id, graph = app.rootGraph ?? app.graph) {
  const [first, ...inner] = String(id).split(":");
  const node = graph?.getNodeById?.(first) ?? graph?.getNodeById?.(Number(first));
  if (!node) return [];
  return inner.length ? [node, ...pathTo(inner.join(":"), node.subgraph)] : [node];
}

/** On the canvas a node is made as high as its widgets need. Nodes 2.0 does so itself. */
function fit(node, height) {
  if (!globalThis.LiteGraph?.vueNodesMode) node.setSize?.([node.size[0], Math.max(height, node.computeSize()[1])]);
}

function add(node) {
  const box = element("div.difffae-warning", { role: "status" });
  const lines = () => box.textContent.split("\n").reduce((sum, line) => sum + Math.ceil((line.length * LETTER) / (node.size[0] - 40)), 0);
  const getMinHeight = () => lines() * LINE + PADDING + MARGIN;
  const widget = node.addDOMWidget(WIDGET, WIDGET, box, { serialize: false, hideOnZoom: false, getMinHeight });
  widget.serialize = false; // options.serialize keeps it out of prompts, this out of workflows
  widget.difffaeHeight = node.size[1]; // the node's, without it
  return widget;
}

function show(node, text) {
  const widget = boxes.get(node) ?? (text && add(node));
  if (!widget) return;
  if (text) boxes.set(node, widget);
  else boxes.delete(node);
  if (!text && node.widgets?.includes(widget)) node.removeWidget(widget);
  else if (!text) widget.onRemove?.();
  widget.element.textContent = widget.element.title = text;
  fit(node, text ? node.size[1] : widget.difffaeHeight);
  node.setDirtyCanvas?.(true, true);
}

/** text: or nothing, to forget what the node was told before. */
function tell(id, text) {
  const path = pathTo(id);
  if (!path.at(-1)?.comfyClass?.startsWith("DiffFAE")) return;
  for (const node of path) {
    const texts = told.get(node) ?? new Map();
    if (text) texts.set(id, text);
    else if (!texts.delete(id)) continue;
    told.set(node, texts);
    show(node, [...texts.values()].join("\n"));
  }
}

/** After the app's own listeners, whichever come first. */
function removeApps(id) {
  for (const node of pathTo(id)) {
    const [apps, own] = [node.widgets?.find((one) => one.name === APPS), boxes.get(node)];
    if (!apps || !own) continue;
    node.removeWidget(apps);
    fit(node, own.difffaeHeight);
  }
}

app.registerExtension({
  name: "DiffFAE.Warnings",
  setup() {
    addStyle();
    api.addEventListener("executing", ({ detail }) => detail != null && tell(String(detail.node ?? detail)));
    api.addEventListener("progress_text", ({ detail }) => {
      tell(String(detail.nodeId), detail.text);
      setTimeout(() => removeApps(detail.nodeId));
    });
  },
});
