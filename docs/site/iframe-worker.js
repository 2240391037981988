// The search of this site runs in a worker, and browsers start none from a file. Opened as a file, the site gives the
// search a hidden frame instead, which speaks as a worker does. Nothing is fetched from elsewhere.
;(() => {
  if (location.protocol !== "file:") return
  class FrameWorker extends EventTarget {
    constructor(url) {
      super()
      this.onmessage = null
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      document.body.appendChild(this.frame)
      const inside = this.frame.contentWindow
      this.ready = new Promise((resolve) => {
        inside.begun = resolve
        inside.said = (data) => {
          const event = new MessageEvent("message", { data })
          this.dispatchEvent(event)
          if (this.onmessage) this.onmessage(event)
        }
      })
      const page = inside.document
      page.open()
      page.write(
        "<!doctype html><script>postMessage = said\n" +
          "importScripts = (...names) => Promise.all(names.map((name) => new Promise((done, failed) => {\n" +
          "  const script = document.createElement('script')\n" +
          "  Object.assign(script, { src: name, onload: done, onerror: failed })\n" +
          "  document.body.appendChild(script)\n" +
          "})))</" + "script><body><script src='" + url + "' onload='begun()'></" + "script>"
      )
      page.close()
    }
    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })))
    }
    terminate() {
      this.frame.remove()
    }
  }
  window.Worker = FrameWorker
})()
