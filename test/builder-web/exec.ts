import { createHash } from 'node:crypto'
import { fixture } from '../images/image-fixtures.ts'

/** A run of a job as builder describes it: `exec` of its ASN.1. */
export type Exec = {
  readonly job: string
  readonly platform?: string | undefined
  readonly script: string
  readonly uuid: string
  /** Oldest line first: nanoseconds and text. */
  readonly console: readonly (readonly [number | bigint, string])[]
  readonly started: string
  readonly finished: string
  readonly result: readonly ['exited' | 'signalled' | 'stopped', number] | readonly ['msg', string]
  readonly outputs: readonly (readonly [path: string, bytes: Buffer])[]
}

/** An element of DER. */
export function tlv(tag: number, ...contents: readonly (Buffer | string)[]): Buffer {
  const content = Buffer.concat(contents.map((part) => Buffer.from(part)))
  const { length } = content
  if (length < 128) return Buffer.concat([Buffer.from([tag, length]), content])
  const hex = length.toString(16)
  const bytes = Buffer.from(hex.padStart(hex.length + (hex.length % 2), '0'), 'hex')
  return Buffer.concat([Buffer.from([tag, 0x80 + bytes.length]), bytes, content])
}

export const sequence = (...parts: readonly Buffer[]) => tlv(0x30, ...parts)
export const utf8 = (text: Buffer | string) => tlv(0x0c, text)

export function integer(value: number | bigint): Buffer {
  let bytes = 1
  while (BigInt.asIntN(bytes * 8, BigInt(value)) !== BigInt(value)) bytes += 1
  const hex = BigInt.asUintN(bytes * 8, BigInt(value)).toString(16)
  return tlv(0x02, Buffer.from(hex.padStart(bytes * 2, '0'), 'hex'))
}

const time = (text: string) => tlv(0x18, text.replace(/[-:T]/g, ''))
const KINDS = ['exited', 'signalled', 'stopped', 'msg']

/** Encodes a run as builder does: the newest line of the console first, and the outputs last. */
export function encodeExec(exec: Exec): Buffer {
  const [kind, value] = exec.result
  const line = ([delta, text]: readonly [number | bigint, string]) =>
    sequence(integer(delta), utf8(text))
  return tlv(
    0xa0,
    sequence(
      sequence(
        utf8(exec.job),
        utf8(exec.script),
        sequence(),
        ...(exec.platform === undefined ? [] : [utf8(exec.platform)]),
      ),
      utf8(Buffer.from(exec.uuid.replaceAll('-', ''), 'hex')),
      sequence(...exec.console.toReversed().map(line)),
      sequence(time(exec.started), time(exec.finished)),
      tlv(0xa0 + KINDS.indexOf(kind), typeof value === 'number' ? integer(value) : utf8(value)),
      sequence(...exec.outputs.map(([path, bytes]) => sequence(utf8(path), utf8(bytes)))),
    ),
  )
}

const SCRIPT = `#!/bin/sh
set -ex
orb build --disable-sandboxing --solver-timeout=600 --switch-name=/tmp/myswitch --date=1589138087 --out=. --repos=default:https://opam.ocaml.org,unikernels:https://git.example.org/unikernel-repo.git hello-key
`
const ENDS = {
  good: '[ORB] It is reproducible!!!',
  bad: '[ERROR] The compilation of hello-key.1.0.0 failed',
}
const FILES = [
  'README.md',
  'build-environment',
  'hello-key.build-hashes',
  'hello-key.hvt.debug',
  'opam-switch',
  'system-packages',
  'bin/hello-key.hvt',
]

/** The runs of the fixtures, and the SHA-256 of what builder-server wrote of each. */
const RUNS = {
  'hello-key-1': {
    ...{ platform: 'debian-12', number: 1 },
    times: ['2026-05-20T18:00:11Z', '2026-05-20T18:07:42Z'],
    sha256: '1e2250059a07b232ac3950f5bc6bd041392f51125e023f58019506176813212d',
  },
  'hello-key-2': {
    ...{ platform: 'debian-12', number: 2 },
    times: ['2026-08-22T18:00:09Z', '2026-08-22T18:06:58Z'],
    sha256: '6c0c751177df7270d51ce76c6a07ac15471f03b4fafe1e3f79749c9a9e631645',
  },
  'hello-key-3-freebsd-same-output': {
    ...{ platform: 'freebsd-14', number: 3 },
    times: ['2026-08-22T19:10:00Z', '2026-08-22T19:14:31Z'],
    sha256: 'c5de186d30cec2c034c736505ccecd1e5f248dbdb9190b353cd5f03494c22db2',
  },
  'hello-key-4-same-input-different-output': {
    ...{ platform: 'debian-12', number: 4 },
    times: ['2026-08-23T18:00:09Z', '2026-08-23T18:06:50Z'],
    sha256: '476a7b07cf961df3944f9ce85da80d1d73333aab21dfe6f47fa9865c209a924a',
  },
  'hello-key-5-failed': {
    ...{ platform: 'debian-12', number: 5 },
    times: ['2026-08-24T18:00:09Z', '2026-08-24T18:01:50Z'],
    sha256: '8dc324bd0e0bbd97eec2159663df37fd4ec17c2d3d1705bd871c4d4d3e7061d9',
  },
} as const
export type Run = keyof typeof RUNS
export const RUN_NAMES = Object.keys(RUNS) as Run[]

/** The hash of a run as builder-server wrote it. */
export const hashOf = (name: Run): string => RUNS[name].sha256

/** Returns a run of the fixtures. */
export function runOf(name: Run): Exec {
  const { platform, times, number } = RUNS[name]
  const [started, finished] = times
  const hasFailed = name === 'hello-key-5-failed'
  const failedFiles = ['README.md', 'build-environment', 'opam-switch', 'system-packages']
  return {
    ...{ job: 'hello-key', platform, script: SCRIPT, started, finished },
    uuid: `0b6f1f0c-8f0e-4b0e-9b3c-0c2f6b8a1a0${number}`,
    console: [
      [120_000_000, '+ set -ex'],
      [4_500_000_000, '[ORB] Switch /tmp/myswitch created!'],
      [61_000_000_000, '[ORB] installing dependencies'],
      [400_000_000_000, hasFailed ? ENDS.bad : ENDS.good],
    ],
    result: ['exited', hasFailed ? 1 : 0],
    outputs: (hasFailed ? failedFiles : FILES).map((path) => [
      path,
      fixture(`builds/${name}/${path}`),
    ]),
  }
}

export const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
