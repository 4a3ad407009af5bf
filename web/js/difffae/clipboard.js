// The clipboard, and a small field for where a browser does not let pages use it (any page that is not https or localhost).
import { element } from "./dom.js";

export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

/** The clipboard's text, or null if it may not be read. */
export async function readText() {
  try {
    return await navigator.clipboard.readText();
  } catch {
    return null;
  }
}

/** Shows a field over the picture; resolves to its text, or null if cancelled. With `given` it only offers that text to be copied. */
export function askForText(host, title, text, given) {
  return new Promise((resolve) => {
    const field = element("textarea", { value: given ?? "", readOnly: given !== undefined, spellcheck: false, "aria-label": title });
    const close = (result) => {
      dialog.remove();
      resolve(result);
    };
    const button = (key, result) => element("button", { type: "button", textContent: text(key), onclick: () => close(result()) });
    const buttons = given === undefined ? [button("cancel", () => null), button("ok", () => field.value)] : [button("close", () => null)];
    const dialog = element("div.difffae-dialog", { role: "dialog", "aria-label": title }, element("span", { textContent: title }), field, element("div", {}, ...buttons));
    for (const type of ["pointerdown", "dblclick"]) dialog.addEventListener(type, (event) => event.stopPropagation());
    dialog.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Escape") close(null);
    });
    host.querySelector(".difffae-dialog")?.remove();
    host.append(dialog);
    field.focus();
    field.select();
  });
}
