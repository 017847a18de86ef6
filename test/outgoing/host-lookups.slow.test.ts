import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { HostLookups } from '../../src/outgoing/host-lookups.ts'

const SILENT_NAMES = 40
const HEADER_BYTES = 12
const TYPE_A = 1
const ANSWERED = 0x8180
const NAME_ERROR = 3

let server: Socket
let lookups: HostLookups
const asked: string[] = []

/** A name server: `silent` names get no response, names of `known.example` the address 192.0.2.7, and others are absent. */
beforeAll(async () => {
  server = createSocket('udp4', (query, from) => {
    const { name, end } = questionOf(query)
    asked.push(name)
    if (name.startsWith('silent')) return
    const isKnown = name.endsWith('known.example')
    const hasAddress = isKnown && query.readUInt16BE(end - 4) === TYPE_A
    const header = Buffer.from(query.subarray(0, HEADER_BYTES))
    header.writeUInt16BE(ANSWERED | (isKnown ? 0 : NAME_ERROR), 2)
    header.writeUInt16BE(hasAddress ? 1 : 0, 6)
    header.fill(0, 8)
    // |pointer to the name|A|IN|60 s|4 bytes|address|
    const record = Buffer.from('c00c000100010000003c0004c0000207', 'hex')
    const question = query.subarray(HEADER_BYTES, end)
    server.send(Buffer.concat([header, question, ...(hasAddress ? [record] : [])]), from.port)
  }).bind(0, '127.0.0.1')
  await once(server, 'listening')
  lookups = new HostLookups([`127.0.0.1:${(server.address() as AddressInfo).port}`])
})

afterAll(() => {
  server.close()
})

function questionOf(query: Buffer): { name: string; end: number } {
  const labels: string[] = []
  let at = HEADER_BYTES
  for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length))
    at += length + 1
  }
  return { name: labels.join('.').toLowerCase(), end: at + 5 }
}

it('a name server that does not answer for many names delays no other name', async () => {
  let failed = 0
  const silent = Array.from({ length: SILENT_NAMES }, (_, index) =>
    lookups.resolve(`silent-${index}.example`).catch(() => {
      failed += 1
    }),
  )
  expect(await lookups.resolve('www.known.example')).toEqual(['192.0.2.7'])
  expect(await lookups.resolve('localhost')).toContain('127.0.0.1')
  expect(failed).toBe(0)
  await Promise.all(silent)
  expect(failed).toBe(SILENT_NAMES)
})

it('an absent name is an error that states the name', async () => {
  await expect(lookups.resolve('absent.example')).rejects.toThrow(/ENOTFOUND absent\.example/)
})

it('names of this machine are not asked of name servers', async () => {
  expect(await lookups.resolve('localhost')).toContain('127.0.0.1')
  expect(asked.filter((name) => name.startsWith('localhost'))).toEqual([])
})
