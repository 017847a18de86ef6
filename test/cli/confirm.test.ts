import { PassThrough } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { confirm } from '../../src/cli/confirm.ts'

function openTerminal(answer: string | undefined, isTTY = true) {
  const input = Object.assign(new PassThrough(), { isTTY })
  const output = new PassThrough()
  if (answer === undefined) input.end()
  else input.write(answer)
  return { input, output }
}

const ask = (answer: string | undefined) => confirm('Delete it?', false, openTerminal(answer))

describe('a question before a deletion', () => {
  it('is answered with y or yes', async () => {
    for (const answer of ['y\n', 'yes\n', 'Y\n', ' YES \r\n']) await ask(answer)
  })

  it('deletes nothing at any other answer, and at the end of the input', async () => {
    for (const answer of ['\n', 'n\n', 'no\n', 'yesterday\n', 'delete\n', undefined]) {
      await expect(ask(answer), answer).rejects.toThrow('nothing was deleted')
    }
  })

  it('is not asked with --yes', async () => {
    await confirm('Delete it?', true, openTerminal(undefined, false))
  })

  it('needs a terminal', async () => {
    const piped = confirm('Delete it?', false, openTerminal('y\n', false))
    await expect(piped).rejects.toThrow('there is no terminal for the question: give --yes')
  })
})
