-- CDEvents, of two versions of their specification.
alter table webhooks drop constraint webhooks_format_known;
alter table webhooks add constraint webhooks_format_known
  check (format in ('cloudevents', 'docker', 'cdevents', 'cdevents-0.5'));
