import { isScript, type ShellBlock } from './pages.ts'

/** Hosts and addresses that a page may name only as the value of a variable. */
const ADDRESS = /127\.0\.0\.1:\d+|localhost:\d+|[\w-]+\.example(?:\.(?:org|com|net))?\b/
const ASSIGNMENT = /(?:^|\s)[A-Z][A-Z0-9_]*=(?:'[^']*'|\S+)/g
const PLACEHOLDER = /…|\.\.\.|<[a-z][\w -]*>/
const PROMPT = /^[$%>] /

/** Lists the lines of a block that a reader cannot paste. */
export function unpastableLines(block: ShellBlock): string[] {
  if (isScript(block)) return []
  return block.text.split('\n').flatMap((line, index) => {
    const bare = line.replaceAll(ASSIGNMENT, '')
    const wrong = PLACEHOLDER.test(line) || PROMPT.test(line) || ADDRESS.test(bare)
    return wrong ? [`${block.page}:${block.line + index + 1}: ${line}`] : []
  })
}
