import type { UnikernelConfig } from './config.ts'
import { baseName } from './format.ts'
import { devicesOf, type Kernel } from './image.ts'

/** The tenders that take devices as options, by target. */
const TENDERS: Readonly<Record<string, string>> = { hvt: 'solo5-hvt', spt: 'solo5-spt' }
const PLAIN_WORD = /^[A-Za-z0-9_./:=-]+$/

/** A unikernel to run. */
type Runnable = { readonly kernel: Kernel; readonly config: UnikernelConfig | undefined }

/**
 * Returns the command line of the tender with each device as an option: solo5's docs, "Running Solo5 unikernels". Undefined for
 * a target that no tender runs.
 */
export function runLine({ kernel, config }: Runnable): string | undefined {
  const tender = TENDERS[kernel.target]
  const needed = devicesOf(kernel)
  if (tender === undefined || needed === undefined) return undefined
  const devices = needed.map(({ kind, name }) =>
    shellWord(`--${kind}:${name}=${kind === 'net' ? 'TAP' : 'DISK'}`),
  )
  const memory = config?.memory === undefined ? [] : [`--mem=${config.memory}`]
  return [tender, ...memory, ...devices, '--', ...fileAndArguments({ kernel, config })].join(' ')
}

/** Returns the arguments of `albatross-client create` for the unikernel `name`. Undefined when albatross does not run the target. */
export function albatrossLine({ kernel, config }: Runnable, name: string): string | undefined {
  const needed = devicesOf(kernel)
  if (!(kernel.target in TENDERS) || needed === undefined) return undefined
  const devices = needed.map(({ kind, name: device }) =>
    shellWord(kind === 'net' ? `--net=${device}:BRIDGE` : `--block=${device}:VOLUME`),
  )
  const memory = config?.memory === undefined ? [] : [`--mem=${config.memory}`]
  const [file = '', ...argv] = fileAndArguments({ kernel, config })
  const given = argv.map((one) => `--arg=${one}`)
  return ['albatross-client create', ...memory, ...devices, ...given, shellWord(name), file].join(
    ' ',
  )
}

function fileAndArguments({ kernel, config }: Runnable): string[] {
  return [baseName(kernel.title ?? 'KERNEL'), ...(config?.argv ?? [])].map(shellWord)
}

/** Returns a word of a POSIX shell, in quotes where it needs them. */
function shellWord(text: string): string {
  return PLAIN_WORD.test(text) ? text : quoted(text)
}

/** Puts a text into quotes of a POSIX shell. */
export function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`
}
