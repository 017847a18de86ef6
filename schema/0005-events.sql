-- Events, webhooks and deliveries.

-- Events, written in the transaction of their change. They wait here for their position in the feed. Only
-- committed events get one, so no reader misses a row that becomes visible late.
create table event_outbox (
  id bigint generated always as identity primary key,
  event_id uuid not null default gen_random_uuid(),
  type text not null,
  repository_id bigint references repositories (id) on delete cascade,
  tag text collate "C",
  digest text collate "C",
  -- Set when only one webhook receives the event.
  webhook_id bigint,
  -- JSON.
  data text not null,
  occurred_at timestamptz not null default clock_timestamp()
);

-- One row, which a sequencer locks: the last position, and the epoch of all positions. A copy of the
-- database that continues separately gets another epoch.
create table feed (
  single boolean primary key default true,
  epoch uuid not null default gen_random_uuid(),
  position bigint not null default 0,
  -- Events up to this position were deleted.
  forgotten bigint not null default 0,
  constraint feed_once check (single)
);
insert into feed default values;

-- The last sequence of each repository; without gaps.
create table repository_sequences (
  repository_id bigint primary key references repositories (id) on delete cascade,
  last bigint not null
);

-- Events with their position. `body` is sent and signed byte by byte.
create table events (
  position bigint primary key,
  event_id uuid not null,
  type text not null,
  repository_id bigint references repositories (id) on delete cascade,
  sequence bigint,
  tag text collate "C",
  digest text collate "C",
  webhook_id bigint,
  occurred_at timestamptz not null,
  body text not null,
  constraint events_id_once unique (event_id)
);
create index events_by_repository on events (repository_id, position);
create index events_by_tag on events (repository_id, tag, position) where tag is not null;

-- Webhooks. `secrets_jwe` is encrypted with the master key. `owner_origin` is the credential or trust
-- policy of the owner, and `owner_grants` its permissions when it wrote the webhook; null: an
-- administrator. A removed webhook keeps its row until its deliveries are deleted.
create table webhooks (
  id bigint generated always as identity primary key,
  name text collate "C" not null,
  url text not null,
  repositories text[] not null,
  tags text[],
  types text[] not null,
  format text not null,
  signatures text[] not null default '{}',
  oidc_audience text,
  secrets_jwe text not null,
  headers jsonb not null default '{}',
  description text,
  max_age_seconds integer,
  coalesce_tags boolean not null default false,
  state text not null default 'active',
  disabled_reason text,
  owner_name text not null,
  owner_origin text,
  owner_grants jsonb,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  removed_at timestamptz,
  constraint webhooks_format_known check (format in ('cloudevents', 'docker')),
  constraint webhooks_state_known check (state in ('active', 'paused', 'disabled')),
  constraint webhooks_bounded check (repositories <> '{}' and types <> '{}')
);
create unique index webhooks_name_once on webhooks (name) where removed_at is null;

-- One row. Every change of `webhooks` increments the count, and processes then read their caches again.
create table webhook_changes (
  single boolean primary key default true,
  count bigint not null default 0,
  constraint webhook_changes_once check (single)
);
insert into webhook_changes default values;

-- The health of a webhook. Nothing is sent before `open_until`; then one delivery is attempted.
create table webhook_health (
  webhook_id bigint primary key references webhooks (id) on delete cascade,
  failures integer not null default 0,
  failing_since timestamptz,
  open_until timestamptz,
  succeeded_at timestamptz,
  failed_at timestamptz
);

-- The delivery of one event to one webhook. While `lease` is held, `due_at` is the end of the lease.
create table deliveries (
  webhook_id bigint not null references webhooks (id) on delete cascade,
  event_position bigint not null,
  state text not null default 'pending',
  -- Attempts of this round, which a redelivery restarts, and of all rounds.
  tries integer not null default 0,
  attempts integer not null default 0,
  due_at timestamptz not null default now(),
  lease uuid,
  created_at timestamptz not null default now(),
  -- The time of the last redelivery request. The age of the delivery counts from then.
  asked_at timestamptz,
  finished_at timestamptz,
  primary key (webhook_id, event_position),
  constraint deliveries_state_known check (
    state in ('pending', 'delivered', 'failed', 'expired', 'superseded', 'refused')
  ),
  constraint deliveries_end_whole check ((finished_at is null) = (state = 'pending'))
);
create index deliveries_due on deliveries (webhook_id, due_at, event_position)
  where state = 'pending';
-- Finds the few failed deliveries among many delivered ones.
create index deliveries_undelivered on deliveries (webhook_id, state, event_position)
  where state not in ('pending', 'delivered');

-- Requests, without secrets, and their responses.
create table delivery_attempts (
  webhook_id bigint not null,
  event_position bigint not null,
  attempt integer not null,
  at timestamptz not null default now(),
  milliseconds integer not null,
  status integer,
  error text,
  request_headers jsonb not null,
  response_headers jsonb,
  response_body text,
  primary key (webhook_id, event_position, attempt),
  foreign key (webhook_id, event_position)
    references deliveries (webhook_id, event_position) on delete cascade
);
