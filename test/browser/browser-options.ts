/** Arguments of Chromium in tests: no sandbox, because it runs as root, and no requests of its own. */
export const BROWSER_OPTIONS = [
  ...['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync'],
  ...['--disable-background-networking', '--disable-component-update'],
]
