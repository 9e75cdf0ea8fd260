// Drains a full buffer with the official client: node official.mjs BUNDLE URL COUNT CONCURRENCY
// Prints the seconds of wall clock and of CPU, from the first attempt to the last answer.
import { pathToFileURL } from "node:url";

const [bundle, baseUrl, count, maxConcurrency] = process.argv.slice(2);
const { ClockNext } = await import(pathToFileURL(bundle).href);

let failed = 0;
const client = new ClockNext({
  apiKey: "cnk_benchmark",
  baseUrl,
  batch: {
    maxSize: 10_000_000,
    maxIntervalMs: 3_600_000,
    maxConcurrency: Number(maxConcurrency),
    maxQueueSize: 10_000_000,
  },
  onError: () => (failed += 1),
  onDrop: () => (failed += 1),
});

async function record(number) {
  for (let each = 0; each < number; each += 1) {
    await client.signals.credit({
      customerId: "cus_123",
      model: "llama-3.3-70b-versatile",
      key: "api_credit",
      member: "alice@acme.example",
      tokens: { input: 1200, output: 340, cache: 0 },
      custom: { feature: "summarize" },
    });
  }
}

await record(10); // the connections are warm for what counts
await client.flush();
await record(Number(count));
const before = [performance.now(), process.cpuUsage()];
await client.flush();
const cpu = process.cpuUsage(before[1]);
console.log((performance.now() - before[0]) / 1e3, (cpu.user + cpu.system) / 1e6);
await client.close();
if (failed) {
  console.error(`${failed} signals were not delivered`);
  process.exit(1);
}
