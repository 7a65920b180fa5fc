// Calls methods of the SDKs for Node for another process, see `clients/driver.py`.
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import * as rekognition from '@aws-sdk/client-rekognition';
import { CompreFace } from '@exadel/compreface-js-sdk';

console.log = console.error; // the SDK of CompreFace prints addresses and keys

// JSON has no bytes, so an argument {"bytes": path} stands for those of a file.
const argument = (value) => {
  if (Array.isArray(value)) return value.map(argument);
  if (value === null || typeof value !== 'object') return value;
  if (typeof value.bytes === 'string') return readFileSync(value.bytes);
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, argument(member)]));
};

const callCompreFace = async ({ port, service, key, options }, method, args) => {
  const sdk = new CompreFace('http://127.0.0.1', port, options);
  const names = method.split('.');
  const name = names.pop();
  const owner = names.reduce((parent, getter) => parent[getter](), sdk[`initFace${service}Service`](key));
  return owner[name](...args);
};

const callRekognition = async ({ config }, method, [input]) => {
  const client = new rekognition.RekognitionClient(config);
  if (!method.startsWith('paginate')) return client.send(new rekognition[`${method}Command`](input));
  const pages = [];
  for await (const page of rekognition[method]({ client, pageSize: 2 }, input)) pages.push(page);
  return pages;
};

const failure = (error) => ({
  kind: error.name,
  message: error.message,
  status: error.response?.status ?? error.$metadata?.httpStatusCode ?? null,
  body: error.response?.data ?? null,
  attempts: error.$metadata?.attempts ?? null,
  known: typeof rekognition[error.name] === 'function' && error instanceof rekognition[error.name],
});

for await (const line of createInterface({ input: process.stdin })) {
  const { client, method, arguments: args } = JSON.parse(line);
  const call = client.config ? callRekognition : callCompreFace;
  let outcome;
  try {
    outcome = { value: (await call(client, method, args.map(argument))) ?? null };
  } catch (error) {
    outcome = { error: failure(error) };
  }
  process.stdout.write(`${JSON.stringify(outcome)}\n`);
}
