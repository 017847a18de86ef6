import { type Command, choiceArgument, command } from './command.ts'
import { type CommandGroup, listEntries, type NamedEntry } from './command-entry.ts'
import { bashScript, type Completion, fishScript, zshScript } from './completion-scripts.ts'
import { STATUS } from './errors.ts'
import { flagOf } from './parser.ts'
import { write } from './printing.ts'

const SCRIPTS = { bash: bashScript, zsh: zshScript, fish: fishScript } as const

/** `rookery completion`: a script that completes commands, subcommands and options. */
export function completionCommand(groups: readonly CommandGroup[]): Command {
  return command({
    arguments: { shell: choiceArgument('SHELL', ['bash', 'zsh', 'fish'], 'bash, zsh or fish') },
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
      const words = groups.flatMap(({ members }) =>
        members.map(({ word, summary }) => ({ word, summary })),
      )
      const commands = await Promise.all(listEntries(groups).map(completionOf))
      write(SCRIPTS[shell]({ words, commands }))
      return STATUS.ok
    },
  })
}

async function completionOf({ name, summary, load }: NamedEntry): Promise<Completion> {
  const { options, arguments: words } = await load()
  return {
    name,
    summary,
    choices: Object.values(words).flatMap(({ choices = [] }) => choices),
    options: Object.entries(options).map(
      ([key, { description, label, bare, choices = [], repeatable = false }]) => ({
        flag: flagOf(key),
        description,
        // Its value is no word of its own.
        label: bare === undefined ? label : undefined,
        choices,
        repeatable,
      }),
    ),
  }
}
