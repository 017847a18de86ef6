import { argument, command, JSON_OPTION } from '../command.ts'
import { STATUS } from '../errors.ts'
import { readSecretArgument } from '../input.ts'
import { printResult } from '../printing.ts'
import { loginLines, parseLoginUrl } from './login.ts'

/** `rookery login-url`: the logins of curl, oras and docker for a URL with user and password. */
export const loginUrlCommand = command({
  arguments: {
    url: argument(
      'URL',
      '- to read https://USER:PASSWORD@HOST[/REPOSITORY[:TAG]] from standard input',
    ),
  },
  options: JSON_OPTION,
  examples: [
    ['rookery login-url - < url', 'print logins for the URL in a file'],
    [
      "rookery credential create orb-1 --repository 'builds/**' --json | jq -r .url | rookery login-url -",
      'create a credential and print its logins',
    ],
  ],
  async run({ url, json }) {
    const login = parseLoginUrl(await readSecretArgument(url, 'a URL'))
    const { curl, oras, docker } = loginLines(login)
    printResult(json, login, ['# curl', curl, '# oras', oras, '# docker', docker])
    return STATUS.ok
  },
})
