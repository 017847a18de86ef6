-- Access: signing keys, credentials, tokens, trust policies and the audit log.

-- One row: the identity of a registry without a public URL.
create table installation (
  single boolean primary key default true,
  id uuid not null default gen_random_uuid(),
  constraint installation_once check (single)
);
insert into installation default values;

-- Globs of tags that never move once they are set.
alter table repositories
  add column immutable_tags text[] not null default '{}';

-- The lists do not apply to `admin`, which may do everything. `tags` and `networks` null: any.
alter table credentials
  drop constraint credentials_kind_known,
  add column repositories text[] not null default '{}',
  add column actions text[] not null default '{}',
  add column tags text[],
  add column networks text[],
  add column created_by text,
  add column expires_at timestamptz,
  add column revoked_at timestamptz,
  add column used_at timestamptz,
  add constraint credentials_kind_known check (kind in ('admin', 'builder')),
  add constraint credentials_actions_known check (actions <@ array['pull', 'push', 'delete', 'admin']),
  add constraint credentials_builder_bounded check (
    kind = 'admin' or (repositories <> '{}' and actions <> '{}')
  );
create unique index credentials_by_secret on credentials (secret_sha256);

-- Keys that sign tokens. `private_jwe` is encrypted with the master key, which is never stored here.
-- A key is published from `created_at`, signs from `active_at` to `retired_at`, and is trusted until
-- `gone_at`.
create table signing_keys (
  kid text primary key,
  algorithm text not null,
  public_jwk jsonb not null,
  private_jwe text not null,
  created_at timestamptz not null default now(),
  active_at timestamptz not null,
  retired_at timestamptz,
  gone_at timestamptz,
  constraint signing_keys_algorithm_known check (algorithm in ('ES256', 'EdDSA')),
  constraint signing_keys_end_whole check ((retired_at is null) = (gone_at is null))
);

-- Revocations: `credential:7` and `policy:3` with all tokens that came from them, or `token:<jti>`. A row
-- is needed until the last of those tokens has expired.
create table revocations (
  id bigint generated always as identity primary key,
  subject text not null,
  revoked_at timestamptz not null default now(),
  expires_at timestamptz not null,
  constraint revocations_subject_once unique (subject)
);
create index revocations_by_time on revocations (revoked_at);

create table refresh_tokens (
  id bigint generated always as identity primary key,
  secret_sha256 bytea not null,
  credential_id bigint not null references credentials (id) on delete cascade,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  constraint refresh_tokens_secret_once unique (secret_sha256),
  constraint refresh_tokens_secret_hashed check (octet_length(secret_sha256) = 32)
);
create index refresh_tokens_by_expiry on refresh_tokens (expires_at);
create index refresh_tokens_by_credential on refresh_tokens (credential_id);

-- The issuers whose identity tokens are exchanged, and the grant of the access token. `conditions` maps
-- claims to globs.
create table trust_policies (
  id bigint generated always as identity primary key,
  name text not null,
  issuer text not null,
  audience text not null,
  conditions jsonb not null,
  repositories text[] not null,
  actions text[] not null,
  tags text[],
  token_seconds integer not null,
  created_by text not null,
  created_at timestamptz not null default now(),
  constraint trust_policies_name_once unique (name),
  constraint trust_policies_actions_known check (actions <@ array['pull', 'push', 'delete', 'admin']),
  constraint trust_policies_bounded check (
    conditions <> '{}' and repositories <> '{}' and actions <> '{}' and token_seconds > 0
  )
);
create index trust_policies_by_issuer on trust_policies (issuer);

-- Identity tokens that were exchanged: each can be used once.
create table used_identity_tokens (
  issuer text not null,
  token_id text not null,
  expires_at timestamptz not null,
  primary key (issuer, token_id)
);
create index used_identity_tokens_by_expiry on used_identity_tokens (expires_at);

-- URLs that accept one file, once.
create table drops (
  id bigint generated always as identity primary key,
  secret_sha256 bytea not null,
  repository text collate "C" not null,
  tag text collate "C" not null,
  actor text not null,
  origin text,
  token_id text,
  networks text[],
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  used_at timestamptz,
  digest text collate "C",
  constraint drops_secret_once unique (secret_sha256),
  constraint drops_secret_hashed check (octet_length(secret_sha256) = 32),
  constraint drops_use_whole check ((used_at is null) = (digest is null))
);
create index drops_by_expiry on drops (expires_at);

-- The audit log: changes and refusals, with their actors.
create table audit (
  id bigint generated always as identity primary key,
  at timestamptz not null default now(),
  action text not null,
  decision text not null,
  actor text,
  origin text,
  token_id text,
  address text,
  request_id text,
  repository text collate "C",
  tags text[],
  digest text collate "C",
  detail text,
  constraint audit_decision_known check (decision in ('allowed', 'refused'))
);
create index audit_by_repository on audit (repository, id) where repository is not null;
create index audit_by_actor on audit (actor, id) where actor is not null;
create index audit_by_time on audit (at);
