import { choiceArgument, command } from './command.ts'
import { COMMAND_GROUPS, listCommands } from './command-index.ts'
import { bashScript, type Completion, fishScript, zshScript } from './completion-scripts.ts'
import { STATUS } from './errors.ts'
import { flagOf } from './parser.ts'

const SCRIPTS = { bash: bashScript, zsh: zshScript, fish: fishScript } as const

/** `rookery completion`: a script that completes commands, subcommands and options. */
export const completionCommand = command({
  arguments: { shell: choiceArgument('SHELL', ['bash', 'zsh', 'fish'], 'shell') },
  notes: 'Install the script again after an update.',
  examples: [
    [
      'rookery completion bash > ~/.local/share/bash-completion/completions/rookery',
      'install for bash with the package bash-completion',
    ],
    ['rookery completion zsh > ~/.zfunc/_rookery', 'install for zsh, in a folder of $fpath'],
    ['rookery completion fish > ~/.config/fish/completions/rookery.fish', 'install for fish'],
  ],
  async run({ shell }) {
    const words = COMMAND_GROUPS.flatMap(({ members }) =>
      members.map(({ word, summary }) => ({ word, summary })),
    )
    const commands = await Promise.all(listCommands().map(completionOf))
    process.stdout.write(SCRIPTS[shell]({ words, commands }))
    return STATUS.ok
  },
})

async function completionOf({
  name,
  summary,
  load,
}: ReturnType<typeof listCommands>[number]): Promise<Completion> {
  const { options, arguments: words } = await load()
  return {
    name,
    summary,
    choices: Object.values(words).flatMap(({ choices = [] }) => choices),
    options: Object.entries(options).map(
      ([key, { description, placeholder, choices = [], repeatable = false }]) => ({
        flag: flagOf(key),
        description,
        placeholder,
        choices,
        repeatable,
      }),
    ),
  }
}
