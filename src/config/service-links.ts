const DNS_LABEL_IN_CAPITALS = '[A-Z0-9_]+'
const ADDRESS = '(?:TCP|UDP|SCTP)'

/** A Service `rookery` gives `ROOKERY_…`, and a Service `rookery-db` gives `ROOKERY_DB_…`. */
const NAME = new RegExp(
  `^ROOKERY_(?:${DNS_LABEL_IN_CAPITALS}_)?(?:${[
    'SERVICE_HOST',
    `SERVICE_PORT(?:_${DNS_LABEL_IN_CAPITALS})?`,
    `PORT(?:_\\d{1,5}_${ADDRESS}(?:_(?:PROTO|PORT|ADDR))?)?`,
  ].join('|')})$`,
)

const VALUES: readonly { readonly name: RegExp; readonly value: RegExp }[] = [
  { name: /_SERVICE_HOST$|_ADDR$/, value: /^[0-9a-f.:]+$/i },
  { name: /_SERVICE_PORT(?:_[A-Z0-9_]+)?$|_\d+_(?:TCP|UDP|SCTP)_PORT$/, value: /^\d{1,5}$/ },
  { name: /_PROTO$/, value: /^(?:tcp|udp|sctp)$/ },
  { name: /_PORT$|_\d+_(?:TCP|UDP|SCTP)$/, value: /^(?:tcp|udp|sctp):\/\/\S+:\d{1,5}$/ },
]

/**
 * True for a variable that Kubernetes and Docker's links set in a container because a service has a name
 * that starts with `rookery`: name and value must have one of their forms, so that a wrong setting with a
 * similar name is still found. See "Environment variables" of Kubernetes' documentation of services.
 */
export function isServiceLink(name: string, value: string | undefined): boolean {
  if (!NAME.test(name)) return false
  const form = VALUES.find((one) => one.name.test(name))
  return form?.value.test(value ?? '') ?? false
}
