// The template browser shows a pack's workflows in the order in which the file system names them: here they are put in that of their names.
import { app } from "/scripts/app.js";
import { api } from "/scripts/api.js";

const PACK = decodeURIComponent(import.meta.url.match(/\/extensions\/([^/]+)\//)[1]);

app.registerExtension({
  name: "DiffFAE.Templates",
  init() {
    const ask = api.getWorkflowTemplates?.bind(api);
    if (!ask) return;
    api.getWorkflowTemplates = async () => {
      const found = await ask();
      found[PACK]?.sort();
      return found;
    };
  },
});
