import { ACTIONS } from '../../auth/access.ts'
import { describeDefault, list } from '../command.ts'

/** The actions of a credential, a trust policy or a token without `--action`. */
export const ACTIONS_DEFAULT: readonly string[] = ['pull', 'push']

/** The options that say to which repositories, actions and tags a right applies. */
export const RIGHT_OPTIONS = {
  repository: list('GLOB', "repositories, such as builds/www or 'builds/**'"),
  action: describeDefault(list('ACTION', 'allowed actions', ACTIONS), 'pull,push'),
  tag: describeDefault(list('GLOB', "tags that may be pushed or deleted, such as 'v*'"), 'all'),
}

/** The option that says from where a right applies. */
export const NETWORK_OPTION = {
  network: describeDefault(list('CIDR', 'client addresses or networks, such as 10.0.0.0/8'), 'all'),
}
