import { type Block, isScript } from './pages.ts'

/** Hosts and addresses that a page may name only as the value of a variable. */
const ADDRESS = /127\.0\.0\.1:\d+|localhost:\d+|[\w-]+\.example(?:\.(?:org|com|net))?\b/
const ASSIGNMENT = /(?:^|\s)[A-Z][A-Z0-9_]*=(?:'[^']*'|\S+)/g
const PLACEHOLDER = /…|\.\.\.|<[a-z][\w -]*>/
const PROMPT = /^[$%>] /
/** On a terminal, zsh (the shell of macOS) takes a comment for words, and a quote in it for the start of a text. */
const COMMENT = /(?:^|\s)#/
/** The letter behind the colon changes the value in zsh, without braces around the name. */
const MODIFIER = /\$\w+:[a-zA-Z]/
/** Words that bash and zsh have, and the other shells of /bin/sh do not. */
const NOT_IN_SH = /<<<|\[\[|<\(|^source /

/** Lists the lines of a block that a reader cannot paste. */
export function unpastableLines(block: Block): string[] {
  if (isScript(block)) return []
  return block.text.split('\n').flatMap((line, index) => {
    const bare = line.replaceAll(ASSIGNMENT, '')
    const patterns = [PLACEHOLDER, PROMPT, COMMENT, MODIFIER, NOT_IN_SH]
    const wrong = ADDRESS.test(bare) || patterns.some((pattern) => pattern.test(line))
    return wrong ? [`${block.page}:${block.line + index + 1}: ${line}`] : []
  })
}
