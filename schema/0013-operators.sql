-- One row: what the server that started last left for commands. `settings` maps names of settings to their values; a
-- setting without a value has its default.
create table last_start (
  single boolean primary key default true,
  url text not null,
  settings jsonb not null,
  started_at timestamptz not null default now(),
  constraint last_start_once check (single)
);

-- The kind `metrics` reads /metrics and nothing else.
alter table credentials
  drop constraint credentials_kind_known,
  drop constraint credentials_builder_bounded,
  add constraint credentials_kind_known check (kind in ('admin', 'builder', 'metrics')),
  add constraint credentials_builder_bounded check (
    kind <> 'builder' or (repositories <> '{}' and actions <> '{}')
  );
