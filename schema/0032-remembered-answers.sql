-- One row: the server that remembers answers to pulls while it alone changes them (src/db/content-lease.ts). `held` is false when
-- it remembers nothing.
create table remembered_answers (
  single boolean primary key default true,
  server uuid not null,
  held boolean not null,
  constraint remembered_answers_once check (single)
);
insert into remembered_answers (server, held) values (gen_random_uuid(), false);

-- A change by anybody else waits until the server has forgotten the answers. New rows change none, because only what was
-- found is remembered. The keys are "rook", "leas" and "serv" in ASCII.
create function wait_for_remembered_answers() returns trigger language plpgsql as $$
declare
  lease record;
begin
  -- Until the end of this transaction, no other server begins to remember.
  perform pg_advisory_xact_lock_shared(1919905643, 1936028278);
  select server, held into lease from remembered_answers;
  if current_setting('rookery.server', true) = lease.server::text then
    return null;
  end if;
  -- From here on, the server cannot remember for longer, and what it may still remember ends within this time.
  perform pg_advisory_xact_lock_shared(1919905643, 1818583411);
  if current_setting('transaction_isolation') <> 'read committed' then
    -- Its snapshot may be older than the row.
    perform pg_sleep(0.2);
  elsif exists (select from remembered_answers where held) then
    perform pg_sleep(0.2);
    update remembered_answers
       set held = false
     where single in (select single from remembered_answers for update skip locked);
  end if;
  return null;
end
$$;

create trigger repositories_wait_for_answers
  after update of name, visibility or delete or truncate on repositories
  execute function wait_for_remembered_answers();
create trigger tags_wait_for_answers
  after update of repository_id, name, digest or delete or truncate on tags
  execute function wait_for_remembered_answers();
create trigger manifests_wait_for_answers
  after update of repository_id, digest, media_type, bytes or delete or truncate on manifests
  execute function wait_for_remembered_answers();
create trigger blobs_wait_for_answers
  after update of digest, size, storage_key, lost_at or delete or truncate on blobs
  execute function wait_for_remembered_answers();
create trigger repository_blobs_wait_for_answers
  after update or delete or truncate on repository_blobs
  execute function wait_for_remembered_answers();

-- Also when rows are written as by replication.
alter table repositories enable always trigger repositories_wait_for_answers;
alter table tags enable always trigger tags_wait_for_answers;
alter table manifests enable always trigger manifests_wait_for_answers;
alter table blobs enable always trigger blobs_wait_for_answers;
alter table repository_blobs enable always trigger repository_blobs_wait_for_answers;
