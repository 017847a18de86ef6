-- Machines that run unikernels and report what they run. A revoked host keeps its row, because `runs` name it; its name
-- is free for another host.
create table hosts (
  id bigint generated always as identity primary key,
  name text collate "C" not null,
  -- `pending`: waits until somebody approves its key.
  state text not null,
  -- `key`: the host signs with a key that it made. `secret`: it has the secret of a credential.
  trust text not null,
  credential_id bigint references credentials (id),
  -- Globs of the repositories that it may follow and pull. Empty while it is pending.
  repositories text[] collate "C" not null,
  -- The networks from which it may call; null: any.
  networks text[],
  -- Counts the changes of `repositories` and `networks`: the tokens of an earlier grant end.
  grant_version integer not null default 1,
  labels jsonb not null default '{}',
  -- The tenders of the host, as its agent reports them: `[{"target", "abi", "architecture"}]`.
  tenders jsonb not null default '[]',
  agent text,
  -- The boot that reported last, and those before it: when one of them goes on to report, several machines have one key.
  boot_id text,
  previous_boot_ids text[] not null default '{}',
  conflict_at timestamptz,
  -- Written at most once a minute.
  seen_at timestamptz,
  lost_at timestamptz,
  -- The actor that made or approved it. `owner_origin` as in `webhooks`.
  created_by text not null,
  owner_origin text,
  created_at timestamptz not null default now(),
  -- When a pending host is removed.
  expires_at timestamptz,
  revoked_at timestamptz,
  constraint hosts_state_known check (state in ('pending', 'active', 'revoked')),
  constraint hosts_trust_known check (trust in ('key', 'secret')),
  constraint hosts_secret_whole check ((trust = 'secret') = (credential_id is not null)),
  constraint hosts_expiry_whole check ((expires_at is not null) = (state = 'pending')),
  constraint hosts_grant_whole check ((cardinality(repositories) = 0) = (state = 'pending')),
  constraint hosts_end_whole check ((revoked_at is not null) = (state = 'revoked'))
);
create unique index hosts_name_once on hosts (name) where state <> 'revoked';
create unique index hosts_by_credential on hosts (credential_id) where credential_id is not null;
create index hosts_present on hosts (name, id) where state <> 'revoked';
create index hosts_pending on hosts (expires_at) where state = 'pending';
create index hosts_revoked on hosts (name, id) where state = 'revoked';
-- A caller that may manage a host has admin on all its repositories, and so on the first of them.
create index hosts_by_repository on hosts (state, (repositories[1]));
create index hosts_by_label on hosts using gin (labels jsonb_path_ops) where state <> 'revoked';
create index hosts_revoked_by_label on hosts using gin (labels jsonb_path_ops) where state = 'revoked';
create index hosts_by_presence on hosts (seen_at) where state = 'active' and lost_at is null;
create index hosts_lost on hosts (lost_at) where state = 'active' and lost_at is not null;

-- The public keys of hosts, by their thumbprint (RFC 7638). A rotated key ends a little after its successor came.
create table host_keys (
  thumbprint text collate "C" primary key,
  host_id bigint not null references hosts (id) on delete cascade,
  jwk jsonb not null,
  added_at timestamptz not null default now(),
  ends_at timestamptz
);
create index host_keys_by_host on host_keys (host_id);

-- Codes with which a host enrols once.
create table enrolments (
  code_sha256 bytea primary key,
  name text collate "C" not null,
  repositories text[] not null,
  networks text[],
  labels jsonb not null default '{}',
  -- The actor that made it, with the rights whose revocation makes the code void.
  created_by text not null,
  origin text,
  token_id text,
  key_id text,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  used_at timestamptz,
  constraint enrolments_code_hashed check (octet_length(code_sha256) = 32)
);
create index enrolments_by_expiry on enrolments (expires_at);

-- The assertions that hosts have used, which are accepted once (RFC 7523, section 3).
create table used_assertions (
  thumbprint text collate "C" not null,
  jti text collate "C" not null,
  expires_at timestamptz not null,
  primary key (thumbprint, jti)
);
create index used_assertions_by_expiry on used_assertions (expires_at);

-- The kind `host` holds the secret of a host, and the grant of its row in `hosts`.
alter table credentials
  drop constraint credentials_kind_known,
  add constraint credentials_kind_known check (kind in ('admin', 'builder', 'metrics', 'host'));
