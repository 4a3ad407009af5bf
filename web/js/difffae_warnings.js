// Warnings that a node of this pack was given in its last run (nodes/wires.py) go when it runs again. The app itself keeps such texts.
import { app } from "/scripts/app.js";
import { api } from "/scripts/api.js";

const TEXT = "$$node-text-preview"; // the app's widget for texts that a running node sends

/** The node that the queue knows by an id: "3", or "7:3" inside subgraph node 7. */
function nodeOf(id, graph = app.rootGraph ?? app.graph) {
  const [first, ...inner] = String(id).split(":");
  const node = graph?.getNodeById?.(first) ?? graph?.getNodeById?.(Number(first));
  return inner.length ? node?.subgraph && nodeOf(inner.join(":"), node.subgraph) : node;
}

app.registerExtension({
  name: "DiffFAE.Warnings",
  setup() {
    api.addEventListener("executing", ({ detail }) => {
      const node = detail == null ? null : nodeOf(detail.node ?? detail);
      if (!node?.comfyClass?.startsWith("DiffFAE")) return;
      const widget = node.widgets?.find((one) => one.name === TEXT);
      if (widget) node.removeWidget?.(widget);
    });
  },
});
