import { readFileSync } from 'node:fs'

const PAGE = readFileSync(new URL('../../docs/webhooks.md', import.meta.url), 'utf8')

/** The part of the page about the verification of deliveries. */
export const [, VERIFY = ''] = PAGE.split(/\n## (?:Verify|A body of your own)\n/)

/** The part of the page about receivers. */
export const [, RECEIVERS = ''] = PAGE.split('\n## Receivers\n')

/** Returns the blocks of code of one language in the section of a receiver. */
export function blocksOf(receiver: string, language: string): string[] {
  const section = RECEIVERS.split('\n### ').find((one) => one.startsWith(`${receiver}\n`)) ?? ''
  const blocks = [...section.matchAll(/```(\w+)[^\n]*\n([\s\S]*?)```/g)]
  return blocks.filter(([, of]) => of === language).map(([, , text = '']) => text)
}

/** A row of the table of receivers: the words before the version, the version, and what the tests run. */
export type ReceiverRow = {
  readonly receiver: string
  readonly version: string | undefined
  readonly tested: string
}

/** Reads the table of receivers. */
export function receiverRows(): ReceiverRow[] {
  const [, table = ''] = /\n\| receiver \| .*\n\|[-|]+\n((?:\|.*\n)*)/.exec(RECEIVERS) ?? []
  return table
    .trim()
    .split('\n')
    .map((row) => {
      const [, first = '', tested = ''] = row.split('|').map((cell) => cell.trim())
      const [, receiver = first, version] = /^`([^`]+)` (\S+)$/.exec(first) ?? []
      return { receiver, version, tested }
    })
}
