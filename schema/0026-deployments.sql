-- Units follow tags, and deployments bring the images of the tags to them.

-- A unit of a host: a unikernel that it keeps running, by a tag that its unit file names. The repository is a name,
-- because a host may follow a tag before it exists.
create table units (
  host_id bigint not null references hosts (id) on delete cascade,
  name text collate "C" not null,
  repository text collate "C" not null,
  tag text collate "C" not null,
  -- Null: any target that the host has a tender for.
  target text,
  -- The devices that the unit file gives, as `net:service`. Null: it does not say.
  devices text[],
  -- The last report. `kernel` is the digest of the kernel that runs; null: none runs.
  kernel text collate "C",
  state text not null,
  reason text,
  message text,
  exit_code integer,
  -- The exit code in words, as the host says it.
  exit_meaning text,
  boot_id text not null,
  sequence bigint not null,
  -- The boot before it, its last report, and whether that one came after the first report of the next boot.
  earlier_boot_id text,
  earlier_sequence bigint,
  earlier_is_late boolean,
  since timestamptz not null,
  reported_at timestamptz not null default clock_timestamp(),
  -- When it began to follow its tag: a move of the tag at the same time may have missed it.
  registered_at timestamptz,
  -- The digest of the manifest that the unit should run, null while it has to wait, and the deployment that granted it.
  granted_digest text collate "C",
  granted_by uuid,
  granted_at timestamptz,
  -- The last digest that was healthy here, the one before it, to which the unit returns when the last one fails within its watch
  -- time, and the one that failed here, which is not offered again until a retry.
  good_digest text collate "C",
  earlier_good_digest text collate "C",
  failed_digest text collate "C",
  primary key (host_id, name),
  constraint units_state_known check (state in
    ('absent', 'fetching', 'starting', 'checking', 'healthy', 'failed', 'rolled-back', 'stopped'))
-- Room for the next version of a row on its page: a grant changes no index then.
) with (fillfactor = 70);
create index units_by_tag on units (repository, tag);
create index units_by_registration on units (registered_at);
create index units_by_kernel on units (kernel) where kernel is not null;

-- One move of a tag that at least one unit follows.
create table deployments (
  id uuid primary key,
  repository_id bigint not null references repositories (id) on delete cascade,
  tag text collate "C" not null,
  number integer not null,
  digest text collate "C" not null,
  -- The digest that the tag had before.
  previous text collate "C",
  kind text not null,
  state text not null default 'rolling',
  -- Why it ended or is paused, in one sentence.
  reason text,
  -- The rollout as it was when the deployment was made: src/deployments/rollout.ts.
  rollout jsonb not null,
  actor text not null,
  origin text,
  targets_made boolean not null default false,
  -- True while the tag has still to be moved back.
  rollback_due boolean not null default false,
  -- How many reviews of `pauseAfter` were passed: `resume` adds one.
  resumes integer not null default 0,
  created_at timestamptz not null default clock_timestamp(),
  -- True while it is paused for a review of `pauseAfter`, and not because somebody paused it.
  in_review boolean not null default false,
  -- When it is looked at next, at the latest. Null: it ended, and so has every target that was granted.
  -- `infinity`: the controller leaves it alone.
  wake_at timestamptz default clock_timestamp(),
  finished_at timestamptz,
  constraint deployments_number_once unique (repository_id, tag, number),
  constraint deployments_kind_known check (kind in ('push', 'rollback', 'retry')),
  constraint deployments_state_known check (state in
    ('rolling', 'paused', 'succeeded', 'failed', 'halted', 'superseded', 'cancelled')),
  constraint deployments_end_whole check ((finished_at is null) = (state in ('rolling', 'paused'))),
  constraint deployments_wake_whole check (wake_at is not null or (finished_at is not null and not rollback_due)),
  constraint deployments_review_whole check (state = 'paused' or not in_review)
);
create index deployments_due on deployments (wake_at) where wake_at is not null;
create index deployments_ended on deployments (finished_at, id) where finished_at is not null;
create index deployments_open on deployments (repository_id, tag, number) where finished_at is null;
create index deployments_succeeded on deployments (repository_id, tag, number) where state = 'succeeded';
create index deployments_by_repository on deployments (repository_id, id);
create index deployments_by_tag on deployments (repository_id, tag, id);
create index deployments_by_digest on deployments (repository_id, digest, id);
create index deployments_by_state on deployments (state, id);

-- One unit in a deployment.
create table targets (
  deployment_id uuid not null references deployments (id) on delete cascade,
  host_id bigint not null references hosts (id) on delete cascade,
  unit text collate "C" not null,
  -- Its place in the order of the rollout.
  place integer not null,
  state text not null,
  -- The kernel for the host; null: the image has none for it.
  kernel text collate "C",
  granted_at timestamptz,
  deadline_at timestamptz,
  healthy_at timestamptz,
  settled_at timestamptz,
  ended_at timestamptz,
  changed_at timestamptz not null default clock_timestamp(),
  exit_code integer,
  exit_meaning text,
  reason text,
  message text,
  primary key (deployment_id, host_id, unit),
  constraint targets_state_known check (state in
    ('waiting', 'granted', 'fetching', 'starting', 'checking', 'healthy',
     'failed', 'rolled-back', 'refused', 'skipped', 'offline', 'overdue'))
);
create index targets_by_unit on targets (host_id, unit, deployment_id);
-- The open targets of a unit, beside all that it ever had.
create index targets_open_by_unit on targets (host_id, unit, deployment_id)
  where state in ('waiting', 'granted', 'fetching', 'starting', 'checking', 'offline');
-- Not for all open targets: at rest there are none, and Postgres would read the whole index for each unit.
create index targets_in_flight on targets (deployment_id, place)
  where state in ('granted', 'fetching', 'starting', 'checking');
-- Few targets are overdue: those of open deployments are counted for the metrics.
create index targets_overdue on targets (deployment_id) where state = 'overdue';

-- Lines that a kernel printed, as its agent sent them.
create table unit_logs (
  id bigint generated always as identity primary key,
  host_id bigint not null references hosts (id) on delete cascade,
  unit text collate "C" not null,
  deployment_id uuid,
  kernel text collate "C",
  at timestamptz not null default clock_timestamp(),
  text text not null
);
create index unit_logs_by_unit on unit_logs (host_id, unit, id);
create index unit_logs_by_deployment on unit_logs (deployment_id, id) where deployment_id is not null;
create index unit_logs_by_time on unit_logs (at);

-- Which kernel ran where and when. `to_at` null: it still runs, as far as the host said.
create table runs (
  id bigint generated always as identity primary key,
  host_id bigint not null references hosts (id) on delete cascade,
  unit text collate "C" not null,
  repository text collate "C" not null,
  kernel text collate "C" not null,
  from_at timestamptz not null,
  to_at timestamptz
);
create unique index runs_open on runs (host_id, unit) where to_at is null;
create index runs_running on runs (id) where to_at is null;
create index runs_running_by_repository on runs (repository, id) where to_at is null;
-- Also revoked hosts are found by their name.
create index hosts_by_name on hosts (name, id);
create index runs_by_host on runs (host_id, id);
create index runs_by_kernel on runs (kernel, id);
create index runs_by_repository on runs (repository, id);

-- How the hosts that follow tags are updated: the first rollout in the order of names whose globs match is used.
create table rollouts (
  name text collate "C" primary key,
  repositories text[] not null,
  tags text[] not null,
  policy jsonb not null,
  created_by text not null,
  updated_at timestamptz not null default now()
);
