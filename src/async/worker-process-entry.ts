import { Worker } from 'node:worker_threads'

// The module that a WorkerProcess runs: its arguments are the URL of another module, and the mebibytes of its heap. That runs in a
// thread, so that this process also ends while a task computes: with the registry, however that ended.
const [entry = '', heapMebibytesMax] = process.argv.slice(2)
const isSource = new URL(entry).pathname.endsWith('.ts')
const worker = new Worker(isSource ? withTypeScript(entry) : new URL(entry), {
  eval: isSource,
  execArgv: [],
  resourceLimits: { maxOldGenerationSizeMb: Number(heapMebibytesMax) },
})
worker.on('message', (answer) => process.send?.(answer))
worker.on('error', () => process.exit(1))
worker.on('exit', () => process.exit(1))
process.on('message', (task) => worker.postMessage(task))
process.on('disconnect', () => process.exit())
// A terminal and a service manager signal all processes of the registry, which ends its tasks itself.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {})

/** Returns a program that runs a module of the sources, for tests: a build has JavaScript. */
function withTypeScript(href: string): string {
  return `import('tsx/esm/api').then(({ register }) => { register(); return import('${href}') })`
}
