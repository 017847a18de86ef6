-- A server that is alone with its embedded Postgres remembers answers to pulls. It holds this lock exclusively meanwhile, and its
-- own connections say so (src/db/content-lease.ts). A change of such an answer by anybody else waits until the server has
-- released the lock. New rows change no answer, because only found content is remembered.
create function wait_for_remembered_answers() returns trigger language plpgsql as $$
begin
  if current_setting('rookery.remembers', true) is distinct from 'on' then
    -- "rook" and "leas" in ASCII.
    perform pg_advisory_xact_lock_shared(1919905643, 1818583411);
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
