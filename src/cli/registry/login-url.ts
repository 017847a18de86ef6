import { type Command, parseArguments, STATUS } from '../command.ts'
import { printJson, printLines } from '../printing.ts'
import { loginLines, parseLoginUrl } from './login.ts'

/** `rookery login-url`: what a URL with user and password in it means for each client. */
export const loginUrlCommand: Command = {
  words: ['login-url'],
  usage: 'https://USER:PASSWORD@HOST[/REPOSITORY[:TAG]] [--json]',
  summary:
    'Print the lines by which curl, oras and docker log in with a URL that has a password in it',
  async run(args) {
    const { values, positionals } = parseArguments(
      args,
      { json: { type: 'boolean', default: false } },
      ['URL'],
    )
    const login = parseLoginUrl(positionals[0] ?? '')
    if (values.json) {
      printJson(login)
      return STATUS.ok
    }
    const { curl, oras, docker } = loginLines(login)
    printLines(['# curl', curl, '# oras', oras, '# docker', docker])
    return STATUS.ok
  },
}
