// Turning the head by dragging: the face follows the pointer.

const ACROSS = { yaw: 100, pitch: 90, roll: 120 }; // degrees for a drag across the whole picture
const STEP = 2; // degrees of an arrow key

/** stage: the element to drag on. values: NodeValues. handlers: ready() -> bool, start(), move(), end(), reset(). */
export function makeTurnable(stage, values, handlers) {
  let held = null;
  let last = null;
  let angles = {}; // not rounded: small moves add up

  const turn = (name, degrees) => {
    const [low, high] = values.limits(name);
    angles[name] = Math.min(high, Math.max(low, angles[name] + degrees));
    values.set({ [name]: angles[name] });
  };
  const begin = () => (angles = { yaw: values.get("yaw"), pitch: values.get("pitch"), roll: values.get("roll") });

  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !handlers.ready() || event.target.closest("button")) return;
    event.preventDefault();
    event.stopPropagation();
    stage.focus({ preventScroll: true });
    stage.setPointerCapture(event.pointerId);
    held = event.pointerId;
    last = [event.clientX, event.clientY];
    begin();
    handlers.start();
  });
  stage.addEventListener("pointermove", (event) => {
    if (event.pointerId !== held) return;
    const side = stage.getBoundingClientRect().width || 1; // on the screen, so that the zoom does not matter
    const [dx, dy] = [(event.clientX - last[0]) / side, (event.clientY - last[1]) / side];
    last = [event.clientX, event.clientY];
    if (event.shiftKey) {
      turn("roll", dx * ACROSS.roll);
    } else {
      if (dx) turn("yaw", dx * ACROSS.yaw);
      if (dy) turn("pitch", -dy * ACROSS.pitch);
    }
    handlers.move();
  });
  const end = (event) => {
    if (event.pointerId !== held) return;
    held = null;
    handlers.end();
  };
  stage.addEventListener("pointerup", end);
  stage.addEventListener("pointercancel", end);
  stage.addEventListener("dblclick", (event) => {
    event.stopPropagation();
    if (handlers.ready()) handlers.reset();
  });
  stage.addEventListener("keydown", (event) => {
    const name = { ArrowLeft: "yaw", ArrowRight: "yaw", ArrowUp: "pitch", ArrowDown: "pitch" }[event.key];
    if (!name || event.target !== stage || !handlers.ready()) return;
    event.preventDefault();
    event.stopPropagation();
    begin();
    const sign = event.key === "ArrowRight" || event.key === "ArrowUp" ? 1 : -1;
    turn(event.shiftKey && name === "yaw" ? "roll" : name, sign * STEP);
    handlers.end();
  });
}
