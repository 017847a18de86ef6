import { deploymentPath } from '../../client/deployments.ts'
import { argument, choice, command, JSON_OPTION, withDefault } from '../command.ts'
import { printResult } from '../printing.ts'
import { requiredTag, withImageApi } from './api-client.ts'
import { GOALS, statusOf } from './deployment-outcome.ts'
import { unfollowedLine } from './deployment-text.ts'
import { WAIT_OPTIONS, waitForDeployments } from './deployment-wait.ts'
import { LOGIN_OPTIONS, type NamedImage } from './login-options.ts'
import { DEPLOYMENT_OPTION, DIGEST_OPTION, findNamed } from './named-deployment.ts'

/** `rookery deploy watch`: waits for a deployment, also of an image that another program pushed. */
export const watchCommand = command({
  arguments: { image: argument('HOST/REPOSITORY:TAG', 'tag that hosts follow') },
  options: {
    until: withDefault(choice('STATE', GOALS, 'wait until all hosts are so'), 'healthy'),
    ...WAIT_OPTIONS,
    ...DIGEST_OPTION,
    ...DEPLOYMENT_OPTION,
    ...JSON_OPTION,
    ...LOGIN_OPTIONS,
  },
  notes:
    'The exit status is 0 when the hosts are healthy, 1 when the deployment failed or was halted, 3 when the time ran out, and 4 when a newer deployment replaced it. Hosts that are offline are named, and not waited for.',
  examples: [
    [
      'oras push registry.example.org/builds/www:live www.hvt\nrookery deploy watch registry.example.org/builds/www:live',
      'push with another program, and wait',
    ],
    [
      'rookery deploy watch registry.example.org/builds/www:live --require-hosts all',
      'fail when a host is offline',
    ],
  ],
  run(values, environment) {
    return withImageApi(values.image, values, environment, async (api, image) => {
      const found = await findNamed(api, image, values)
      if (found === undefined) return endUnfollowed(image, values.json, values.requireHosts)
      const wait = { ...waitOf(values), goal: values.until }
      return waitForDeployments(api, [deploymentPath(found.id)], wait, environment)
    })
  },
})

type WaitValues = {
  readonly waitTimeout: number
  readonly requireHosts: number | 'all' | undefined
  readonly json: boolean
}

/** The values of WAIT_OPTIONS. */
export function waitOf({ waitTimeout: seconds, requireHosts: hosts, json }: WaitValues) {
  return { seconds, hosts, json }
}

/** Prints that no host follows a tag. Returns the exit status. */
export function endUnfollowed(
  image: NamedImage,
  json: boolean,
  hosts: WaitValues['requireHosts'],
  tag: string = requiredTag(image),
): number {
  const { repository } = image.reference
  const status = statusOf('unfollowed', hosts !== undefined)
  const result = { outcome: 'unfollowed', status, repository, tag, deployment: null }
  printResult(json, result, [unfollowedLine(repository, tag)])
  return status
}
