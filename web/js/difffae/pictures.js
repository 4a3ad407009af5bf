// Pictures of the preview route: one request at a time, and the newest wish is always the last one shown.

export class Pictures {
  /** fetch(route, body, signal) -> Response. handlers: wish() -> body or null, show(url, light), fail(text), gone(), busy(on). */
  constructor(fetch, handlers) {
    Object.assign(this, { fetch, handlers, running: false, shown: null, untouched: new Map(), stop: new AbortController() });
  }

  /** Something may have changed. */
  async update() {
    if (this.running) return;
    this.running = true;
    try {
      for (;;) {
        const wish = this.handlers.wish();
        const name = wish && JSON.stringify(wish);
        if (!wish || name === this.shown || this.stop.signal.aborted) break;
        const slow = setTimeout(() => this.handlers.busy(true), 300);
        const url = await this.picture(wish, name);
        clearTimeout(slow);
        if (this.stop.signal.aborted) break;
        this.shown = name;
        if (url) this.handlers.show(url, this.light);
        if (url && this.message) this.handlers.fail(this.message);
        this.handlers.busy(false);
      }
    } finally {
      this.running = false;
    }
  }

  /** URL of a picture, or null after an error. Pictures without any change are kept: they are what "before" shows. */
  async picture(wish, name) {
    this.message = null; // what the server says beside the picture
    this.light = null; // direction of a pasted light, in degrees
    const kept = this.untouched.get(name);
    if (kept) return kept;
    let url;
    try {
      const answer = await this.fetch("/difffae/preview", wish, this.stop.signal);
      if (answer.status === 410) {
        this.handlers.gone();
        return null;
      }
      if (!answer.ok) {
        this.handlers.fail((await answer.text()) || answer.statusText);
        return null;
      }
      this.message = answer.headers.get("X-DiffFAE-Message");
      this.light = answer.headers.get("X-DiffFAE-Light")?.split(" ").map(Number) ?? null;
      url = URL.createObjectURL(await answer.blob());
      const decoded = new Image();
      decoded.src = url;
      await decoded.decode(); // so that it replaces the old one at once
    } catch (error) {
      if (!this.stop.signal.aborted) this.handlers.fail(String(error?.message ?? error));
      return null;
    }
    if (Object.keys(wish.values).length === 0) this.untouched.set(name, url);
    else {
      if (this.last) setTimeout(URL.revokeObjectURL, 1000, this.last);
      this.last = url;
    }
    return url;
  }

  /** Forget everything: another face came. */
  reset() {
    this.shown = null;
    this.untouched.forEach((url) => setTimeout(URL.revokeObjectURL, 1000, url));
    this.untouched.clear();
  }

  destroy() {
    this.stop.abort();
    this.reset();
    if (this.last) URL.revokeObjectURL(this.last);
  }
}
