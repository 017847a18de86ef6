import {
  argument,
  command,
  describeDefault,
  flag,
  JSON_OPTION,
  list,
  required,
} from '../command.ts'
import { durationOption } from '../durations.ts'
import { STATUS, UsageError } from '../errors.ts'
import { printResult, utcText, visible } from '../printing.ts'
import { withHostApi } from './api-client.ts'
import { NAMED } from './host.ts'
import { type Host, hostLines, hostPath, parseLabels } from './host-text.ts'
import { LOGIN_OPTIONS } from './login-options.ts'

const TTL_SECONDS_MAX = 7 * 86_400

/** The options that say what a host may do. */
const GRANT = {
  repository: required(list('GLOB', "repositories that it may follow, such as 'builds/*'")),
  network: describeDefault(list('CIDR', 'networks from which it may call'), 'all'),
  label: list('LABEL=VALUE', 'labels, such as site=a'),
}

type Grant = {
  readonly repository: readonly string[]
  readonly network: readonly string[] | undefined
  readonly label: readonly string[] | undefined
}

function grantOf({ repository, network, label = [] }: Grant) {
  return { repositories: repository, networks: network, labels: parseLabels('--label', label) }
}

type Enrolment = { readonly name: string; readonly expiresAt: string; readonly command: string }

/** `rookery host create`: a code with which a host enrols. */
export const createCommand = command({
  arguments: NAMED,
  options: {
    ...GRANT,
    ttl: describeDefault(durationOption('the code lives for so long', TTL_SECONDS_MAX), '1h'),
    secret: flag('make a password instead, for a host that cannot sign'),
    ...JSON_OPTION,
    ...LOGIN_OPTIONS,
  },
  notes:
    'Prints the command to run on the host, once. The host makes its own key, which never leaves it. The login needs admin and pull on all repositories of the host. With --secret, anybody who reads the password may report for the host.',
  examples: [
    [
      "rookery host create registry.example.org web-1 --repository 'builds/*' --label site=a",
      'let web-1 follow the tags below builds/',
    ],
    [
      "rookery host create registry.example.org old-1 --repository 'builds/*' --secret",
      'a host without openssl 1.1.1 or newer',
    ],
  ],
  run(values, environment) {
    if (values.secret && values.ttl !== undefined) {
      throw new UsageError('--ttl is for a code, and --secret makes none')
    }
    return withHostApi(values.host, values, environment, async (api) => {
      const { name } = values
      const body = { name, ...grantOf(values) }
      if (values.secret) {
        const created = await api.send('POST', '/api/v1/hosts', `the host ${name}`, body)
        const { secret } = created as { readonly secret: string }
        printResult(values.json, created, [`Password of ${name}:`, secret].map(visible))
        return STATUS.ok
      }
      const code = { ...body, ttlSeconds: values.ttl }
      const made = await api.send('POST', '/api/v1/enrolments', `the host ${name}`, code)
      const enrolment = made as Enrolment
      printResult(
        values.json,
        made,
        [
          `Run this on ${name}, once, before ${utcText(enrolment.expiresAt)}:`,
          enrolment.command,
        ].map(visible),
      )
      return STATUS.ok
    })
  },
})

/** `rookery host approve`: a host that enrolled without a code becomes active. */
export const approveCommand = command({
  arguments: {
    ...NAMED,
    fingerprint: argument('KEY', 'fingerprint of its key, as the host printed it'),
  },
  options: { ...GRANT, ...JSON_OPTION, ...LOGIN_OPTIONS },
  notes:
    'Hosts wait for an hour where ROOKERY_HOST_ENROLMENT is approve. Copy the fingerprint from the host, and not from rookery host list: anybody may enrol under this name. rookery host revoke refuses a host.',
  examples: [
    [
      "rookery host approve registry.example.org web-1 kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k --repository 'builds/*'",
      'approve web-1',
    ],
  ],
  run(values, environment) {
    return withHostApi(values.host, values, environment, async (api) => {
      const { name, fingerprint } = values
      const body = { fingerprint, ...grantOf(values) }
      const path = hostPath(name, '/approve')
      const host = (await api.send('POST', path, `the host ${name}`, body)) as Host
      printResult(values.json, host, hostLines(host))
      return STATUS.ok
    })
  },
})
