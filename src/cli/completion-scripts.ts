/** A command as completion scripts know it. */
export type Completion = {
  /** Its words, such as `webhook create`. */
  readonly name: string
  readonly summary: string
  /** The values of its argument; empty when any word may be one. */
  readonly choices: readonly string[]
  readonly options: readonly CompletedOption[]
}

type CompletedOption = {
  readonly flag: string
  readonly description: string
  /** Undefined for a flag without a value. */
  readonly label: string | undefined
  readonly choices: readonly string[]
  readonly repeatable: boolean
}

export type Completions = {
  /** The first words of commands. */
  readonly words: readonly Described[]
  readonly commands: readonly Completion[]
}

type Described = { readonly word: string; readonly summary: string }

/** The first words that have a second one, with the second ones. */
function parentsOf(commands: readonly Completion[]): Map<string, Described[]> {
  const parents = new Map<string, Described[]>()
  for (const { name, summary } of commands) {
    const [first = '', word] = name.split(' ')
    if (word === undefined) continue
    parents.set(first, [...(parents.get(first) ?? []), { word, summary }])
  }
  return parents
}

/** Returns a completion script for bash 3.2 and newer. Where it has no words, bash completes paths. */
export function bashScript({ words, commands }: Completions): string {
  const parents = [...parentsOf(commands)]
  const firsts = parents.map(([first]) => first).join('|')
  const seconds = parents.map(
    ([first, entries]) => `      ${first}) words="${wordsOf(entries)}" ;;`,
  )
  return `# bash completion for rookery
_rookery() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}"
  local command="\${COMP_WORDS[1]}" depth=1 words=""
  case "$command" in
    ${firsts}) depth=2; command="$command \${COMP_WORDS[2]}" ;;
  esac
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="${wordsOf(words)} help --help --version"
  elif [ "$COMP_CWORD" -le "$depth" ]; then
    case "\${COMP_WORDS[1]}" in
${seconds.join('\n')}
    esac
  else
    case "$command" in
${commands.map(bashCommand).join('\n')}
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _rookery rookery
`
}

function bashCommand({ name, options, choices }: Completion): string {
  const flags = [...options.map(({ flag }) => flag), '--help'].join(' ')
  const valued = options.filter(({ label }) => label !== undefined)
  const values = valued
    .filter((one) => one.choices.length > 0)
    .map((one) => `          ${one.flag}) words="${one.choices.join(' ')}" ;;`)
  const free = valued.filter((one) => one.choices.length === 0).map(({ flag }) => flag)
  const others = free.length === 0 ? [] : [`          ${free.join('|')}) ;;`]
  const argument = choices.length === 0 ? '' : ` else words="${choices.join(' ')}";`
  return [
    `      "${name}")`,
    '        case "$previous" in',
    ...values,
    ...others,
    `          *) if [[ "$current" == -* ]]; then words="${flags}";${argument} fi ;;`,
    '        esac ;;',
  ].join('\n')
}

/** Returns a completion script for zsh 5 and newer, to be autoloaded or sourced. */
export function zshScript({ words, commands }: Completions): string {
  const seconds = [...parentsOf(commands)].map(
    ([first, entries]) => `    ${first})
      if (( CURRENT == 2 )); then
        entries=(${zshEntries(entries)})
        _describe command entries
        return
      fi
      command="$command \${words[2]}"
      shift words
      (( CURRENT -= 1 ))
      ;;`,
  )
  return `#compdef rookery
# zsh completion for rookery
_rookery() {
  local command
  local -a entries
  if (( CURRENT == 2 )); then
    entries=(${zshEntries([...words, { word: 'help', summary: 'Show help' }])})
    _describe command entries
    return
  fi
  command="\${words[2]}"
  shift words
  (( CURRENT -= 1 ))
  case "$command" in
${seconds.join('\n')}
  esac
  case "$command" in
${commands.map(zshCommand).join('\n')}
  esac
}
if [ "\${funcstack[1]}" = _rookery ]; then
  _rookery "$@"
else
  compdef _rookery rookery
fi
`
}

function zshEntries(entries: readonly Described[]): string {
  return entries
    .map(({ word, summary }) => quoted(`${word}:${summary.replaceAll(':', '\\:')}`))
    .join(' ')
}

function zshCommand({ name, options, choices }: Completion): string {
  const specs = options.map(({ flag, description, label, choices: values, repeatable }) => {
    const text = description.replace(/[[\]:\\]/g, (one) => `\\${one}`)
    const start = `${repeatable ? '*' : ''}${flag}`
    if (label === undefined) return quoted(`${start}[${text}]`)
    return quoted(`${start}=[${text}]:${label}:${zshValues(values)}`)
  })
  const argument = quoted(`*:argument:${zshValues(choices)}`)
  return `    ${quoted(name)}) _arguments ${[...specs, "'--help[Show help]'", argument].join(' ')} ;;`
}

function zshValues(choices: readonly string[]): string {
  return choices.length === 0 ? '_files' : `(${choices.join(' ')})`
}

/** Returns a completion script for fish 3 and newer. */
export function fishScript({ words, commands }: Completions): string {
  const seconds = [...parentsOf(commands)].flatMap(([first, entries]) =>
    entries.map(({ word, summary }) => fishWord(`__rookery_at ${first}`, word, summary)),
  )
  return `# fish completion for rookery
function __rookery_at
    set -l words (commandline -opc)
    test (count $words) -eq (math 1 + (count $argv)); and __rookery_in $argv
end
function __rookery_in
    set -l words (commandline -opc)
    test (count $words) -gt (count $argv)
    and test (string join ' ' -- $words[2..(math 1 + (count $argv))]) = (string join ' ' -- $argv)
end
function __rookery_first
    test (count (commandline -opc)) -eq 1
end
complete -c rookery -n __rookery_first -f
${words.map(({ word, summary }) => fishWord('__rookery_first', word, summary)).join('\n')}
${seconds.join('\n')}
${commands.flatMap(fishCommand).join('\n')}
`
}

function fishWord(condition: string, word: string, summary: string): string {
  return `complete -c rookery -n '${condition}' -f -a ${word} -d ${quoted(summary, "\\'")}`
}

function fishCommand({ name, options, choices }: Completion): string[] {
  const condition = `complete -c rookery -n '__rookery_in ${name}'`
  return [
    ...(choices.length === 0 ? [] : [`${condition} -f -a '${choices.join(' ')}'`]),
    ...options.map(({ flag, description, label, choices: values }) => {
      const kind =
        label === undefined ? '' : values.length > 0 ? ` -x -a '${values.join(' ')}'` : ' -r'
      return `${condition} -l ${flag.slice(2)}${kind} -d ${quoted(description, "\\'")}`
    }),
  ]
}

function wordsOf(entries: readonly Described[]): string {
  return entries.map(({ word }) => word).join(' ')
}

/** A word for a shell in single quotes; fish escapes a quote in another way. */
function quoted(text: string, quote = `'\\''`): string {
  return `'${text.replaceAll("'", quote)}'`
}
