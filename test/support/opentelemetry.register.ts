// Loaded with --import, as @opentelemetry/auto-instrumentations-node/register is, with the same packages for HTTP and Postgres:
// the whole package has 200 others.
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { registerInstrumentations } from '@opentelemetry/instrumentation'
import { HttpInstrumentation } from '@opentelemetry/instrumentation-http'
import { PgInstrumentation } from '@opentelemetry/instrumentation-pg'
import { BatchSpanProcessor, NodeTracerProvider } from '@opentelemetry/sdk-trace-node'

// The exporter and the processor read their settings from variables that begin with OTEL_.
new NodeTracerProvider({
  spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())],
}).register()
registerInstrumentations({ instrumentations: [new HttpInstrumentation(), new PgInstrumentation()] })
