-- The template of the body that a webhook sends instead of its events, as JSON text: jsonb would change the order of the
-- keys. Null: it sends the events.
alter table webhooks add column body text;
