// Makes the search work when a page is opened from disk. Browsers allow no web worker under file://, so the worker's
// script runs in a hidden frame instead. The name of this file keeps the plugin `offline` from adding a script of a CDN.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.appendChild(frame);
      const inner = frame.contentWindow;
      this.inner = inner;
      addEventListener("message", (event) => {
        if (event.source === inner) this.dispatchEvent(new MessageEvent("message", { data: event.data }));
      });
      inner.document.open();
      inner.document.write(
        `<script>postMessage = (data) => parent.postMessage(data, "*");</` + `script><script src="${url}"></` + `script>`,
      );
      inner.document.close();
      this.loaded = new Promise((resolve) => inner.addEventListener("load", resolve));
    }
    postMessage(data) {
      this.loaded.then(() => this.inner.dispatchEvent(new MessageEvent("message", { data: structuredClone(data) })));
    }
  };
}
