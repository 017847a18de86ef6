import {
  changeDeployment,
  DEPLOYMENTS,
  type Deployment,
  type DeploymentAction,
  deploymentsPath,
  parseDeployment,
} from '../../client/deployments.ts'
import type { RegistryApi } from '../../client/registry-api.ts'
import { DEPLOYMENT_STATES } from '../../deployments/states.ts'
import { argument, choice, command, JSON_OPTION, value } from '../command.ts'
import { STATUS, UsageError } from '../errors.ts'
import { LIMIT_OPTION, MORE_LINE } from '../numbers.ts'
import { printJson, printLines, printResult, printTable, utcText } from '../printing.ts'
import { parseDigestOption, queryOf, shortDigest, withHostApi, withImageApi } from './api-client.ts'
import { statusLines } from './deployment-display.ts'
import { countsText, headLine } from './deployment-text.ts'
import { LOGIN_OPTIONS, readReference } from './login-options.ts'
import { DEPLOYMENT_OPTION, DIGEST_OPTION, requireNamed } from './named-deployment.ts'

const TAG = { image: argument('HOST/REPOSITORY:TAG', 'tag that hosts follow') }

/** `rookery deploy status`: the newest deployment of a tag. */
export const statusCommand = command({
  arguments: TAG,
  options: { ...DIGEST_OPTION, ...DEPLOYMENT_OPTION, ...JSON_OPTION, ...LOGIN_OPTIONS },
  notes: 'Hosts are shown to logins that may push to the repository, and numbers to others.',
  examples: [
    ['rookery deploy status registry.example.org/builds/www:live', 'show which host runs it'],
  ],
  run(values, environment) {
    return withImageApi(values.image, values, environment, async (api, image) => {
      const deployment = await requireNamed(api, image, values)
      printResult(values.json, deployment, statusLines(deployment))
      return STATUS.ok
    })
  },
})

/** `rookery deploy list`: the deployments of a repository, or of all that the login may see. */
export const listCommand = command({
  arguments: { image: argument('HOST[/REPOSITORY]', 'registry, repository, or :TAG of one') },
  options: {
    state: choice('STATE', DEPLOYMENT_STATES, 'only deployments in this state; with HOST alone'),
    ...DIGEST_OPTION,
    ...LIMIT_OPTION,
    ...JSON_OPTION,
    ...LOGIN_OPTIONS,
  },
  notes: '--digest needs a repository.',
  examples: [
    ['rookery deploy list registry.example.org/builds/www:live', 'list the deployments of a tag'],
    ['rookery deploy list registry.example.org --state rolling', 'list the open ones everywhere'],
  ],
  async run(values, environment) {
    const { state, digest, limit, json } = values
    const text = await readReference(values.image)
    const list = async (api: RegistryApi, path: string, headings: readonly Heading[]) => {
      const { items, more } = await api.listUpTo(path, 'deployments', DEPLOYMENTS, limit)
      const deployments = items.map(parseDeployment)
      if (json) printJson({ deployments, more })
      else
        printTable(
          headings,
          deployments.map((one) => headings.map((head) => CELLS[head](one))),
        )
      if (!json && more) printLines([MORE_LINE])
      return STATUS.ok
    }
    if (!HAS_REPOSITORY.test(text.replace(SCHEME, ''))) {
      if (digest !== undefined) throw new UsageError('--digest needs HOST/REPOSITORY')
      return withHostApi(text, values, environment, (api) =>
        list(api, `/api/v1/deployments${queryOf({ state })}`, HEADINGS),
      )
    }
    if (state !== undefined) throw new UsageError('--state is for HOST without a repository')
    return withImageApi(text, values, environment, (api, { reference }) => {
      const { repository, tag } = reference
      const wanted = parseDigestOption(digest) ?? reference.digest
      const path = `${deploymentsPath(repository)}${queryOf({ tag, digest: wanted })}`
      return list(api, path, HEADINGS_OF_REPOSITORY)
    })
  },
})

const SCHEME = /^https?:\/\//
const HAS_REPOSITORY = /^[^/]+\/+[^/]/

const CELLS = {
  CREATED: ({ createdAt }: Deployment) => utcText(createdAt),
  REPOSITORY: ({ repository }: Deployment) => repository,
  TAG: ({ tag }: Deployment) => tag,
  NUMBER: ({ number }: Deployment) => String(number),
  KIND: ({ kind }: Deployment) => kind,
  STATE: ({ state }: Deployment) => state,
  DIGEST: ({ digest }: Deployment) => shortDigest(digest),
  UNITS: countsText,
}
type Heading = keyof typeof CELLS
const HEADINGS = Object.keys(CELLS) as Heading[]
const HEADINGS_OF_REPOSITORY = HEADINGS.filter((heading) => heading !== 'REPOSITORY')

/** `rookery deploy pause`: no more hosts are updated. */
export const pauseCommand = actionCommand('pause', {
  notes: 'Hosts that have begun continue. The others keep what they run.',
  effect: 'update no more hosts',
})

/** `rookery deploy resume`: a paused deployment goes on. */
export const resumeCommand = actionCommand('resume', {
  notes: 'A deployment also pauses by itself where its rollout says so.',
  effect: 'continue with the next hosts',
})

/** `rookery deploy cancel`: a deployment ends, and the other hosts keep what they run. */
export const cancelCommand = actionCommand('cancel', {
  notes: 'The tag stays where it is. rookery tag rollback moves it back.',
  effect: 'update no more hosts, for good',
})

function actionCommand(
  action: Exclude<DeploymentAction, 'retry'>,
  { notes, effect }: { readonly notes: string; readonly effect: string },
) {
  return command({
    arguments: TAG,
    options: { ...DEPLOYMENT_OPTION, ...JSON_OPTION, ...LOGIN_OPTIONS },
    notes: `${notes} The login must be allowed to push the tag.`,
    examples: [[`rookery deploy ${action} registry.example.org/builds/www:live`, effect]],
    run(values, environment) {
      return withImageApi(values.image, values, environment, async (api, image) => {
        const { id } = await requireNamed(api, image, values)
        const deployment = await changeDeployment(api, id, action)
        printResult(values.json, deployment, [headLine(deployment)])
        return STATUS.ok
      })
    },
  })
}

/** `rookery deploy retry`: a new deployment to the hosts that failed. */
export const retryCommand = command({
  arguments: TAG,
  options: {
    host: value('NAME', 'only this host'),
    ...DEPLOYMENT_OPTION,
    ...JSON_OPTION,
    ...LOGIN_OPTIONS,
  },
  notes:
    'It is a new deployment of the same image to the hosts where it failed, and the tag must still point to that image.',
  examples: [
    [
      'rookery deploy retry registry.example.org/builds/www:live --host web-1',
      'try one host again',
    ],
  ],
  run(values, environment) {
    return withImageApi(values.image, values, environment, async (api, image) => {
      const { id } = await requireNamed(api, image, values)
      const deployment = await changeDeployment(api, id, 'retry', values.host)
      printResult(values.json, deployment, [headLine(deployment)])
      return STATUS.ok
    })
  },
})
