import { DataTable, Empty, Heading, NextPage, Time } from './elements.tsx'
import { webhookPath } from './paths.ts'
import { firstOf } from './texts.ts'
import { type WebhookHealthView, WebhookStateWord, waitingText } from './webhook-words.tsx'

/** A webhook of a list. */
export type WebhookItem = WebhookHealthView & {
  readonly name: string
  readonly url: string
  readonly repositories: readonly string[]
}

/** The page of the webhooks that the caller manages: which of them deliver, and which fail. */
export function WebhooksPage({
  webhooks,
  isWhole,
  next,
}: {
  /** By name. */
  webhooks: readonly WebhookItem[]
  /** True on a page with all webhooks. */
  isWhole: boolean
  next: string | undefined
}) {
  const failing = webhooks.filter(isFailing).length
  return (
    <>
      <Heading note="A webhook sends events of repositories to another server.">Webhooks</Heading>
      {isWhole && webhooks.length > 0 ? (
        <p>
          {failing === 0
            ? 'No webhook fails.'
            : `${failing} of ${webhooks.length} ${failing === 1 ? 'fails' : 'fail'}.`}
        </p>
      ) : null}
      {webhooks.length === 0 ? (
        <Empty>
          {isWhole ? (
            <>
              No webhook is here that you may manage. <code>rookery webhook create</code> makes one.
            </>
          ) : (
            'No more webhooks.'
          )}
        </Empty>
      ) : (
        <DataTable
          caption="Webhooks, by name"
          filter
          columns={[
            'Webhook',
            'Delivery',
            'Last delivered',
            'Last failure',
            { name: 'Waiting', kind: 'number' },
            'Receiver',
            'Repositories',
          ]}
          rows={webhooks.map((one) => ({ key: one.name, cells: cellsOf(one) }))}
        />
      )}
      <NextPage href={next} name="More webhooks" />
    </>
  )
}

function isFailing({ state, authentication, health }: WebhookItem): boolean {
  return state === 'disabled' || !authentication.readable || health.failures > 0
}

function cellsOf(webhook: WebhookItem) {
  const { name, url, repositories, health } = webhook
  return [
    <a href={webhookPath(name)}>{name}</a>,
    <WebhookStateWord webhook={webhook} />,
    health.succeededAt === null ? (
      <span class="faint">never</span>
    ) : (
      <Time at={health.succeededAt} />
    ),
    health.failedAt === null ? <span class="faint">never</span> : <Time at={health.failedAt} />,
    waitingText(health.waiting),
    new URL(url).host,
    firstOf(repositories, PATTERNS_SHOWN_MAX),
  ]
}

/** Patterns of repositories that a row shows. */
const PATTERNS_SHOWN_MAX = 3
