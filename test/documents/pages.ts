import { readPage } from '../house/tree.ts'

/** A fenced block of a page. */
export type Block = {
  readonly page: string
  /** The number of the line of its fence. */
  readonly line: number
  /** The heading of the second level above it. */
  readonly section: string
  readonly language: string
  readonly text: string
}

const SHELL_LANGUAGES = new Set(['sh', 'bash', 'zsh', 'shell', 'console', 'shell-session'])
const FENCE = /^ *(?:```|~~~) *(?<language>[\w-]*)/

/** Lists the shell blocks of a page, in their order. */
export function shellBlocksOf(page: string, text = readPage(page)): Block[] {
  return blocksOf(page, text).filter(isShell)
}

/** True for a block whose language is that of a shell. */
export function isShell({ language }: Block): boolean {
  return SHELL_LANGUAGES.has(language)
}

/** Lists the fenced blocks of a page, in their order. */
export function blocksOf(page: string, text = readPage(page)): Block[] {
  const blocks: Block[] = []
  let open: { language: string; line: number; lines: string[] } | undefined
  let section = ''
  for (const [index, line] of text.split('\n').entries()) {
    if (open === undefined && line.startsWith('## ')) section = line.slice('## '.length)
    const fence = FENCE.exec(line)?.groups
    if (fence === undefined) {
      open?.lines.push(line)
    } else if (open === undefined) {
      open = { language: fence.language ?? '', line: index + 1, lines: [] }
    } else {
      const { language, line, lines } = open
      blocks.push({ page, line, section, language, text: `${lines.join('\n')}\n` })
      open = undefined
    }
  }
  return blocks
}

/** True for a block that is the text of a script: it is a file of docs/examples, with tests of its own. */
export function isScript({ text }: Block): boolean {
  return text.startsWith('#!')
}
