// A neighbour that keeps its token with node-easywechat and the Redis cache that this library's README shows.
'use strict';

const http = require('node:http');
const Redis = require('ioredis');
const { CacheInterface, OfficialAccount } = require('node-easywechat');

const REFUSED = [40001, 40014, 42001];
const TOKEN_PATHS = /cgi-bin\/(stable_)?token$/;

function env(name, fallback) {
  const value = process.env[`NEIGHBOUR_${name}`] || fallback;
  if (value === undefined) throw new Error(`NEIGHBOUR_${name} is missing`);
  return value;
}

const mode = env('MODE', 'own');
const mesh = env('MESH', '');
const about = { kind: 'easywechat', mode };
const counters = { calls: 0, ok: 0, failed: 0, beside: 0, mesh: 0, rejected: 0, token_calls: 0, token_failures: 0 };

// One JSON line per event. Never a token, a secret or an error's text.
function emit(event, fields) {
  console.log(JSON.stringify({ event, ...fields }));
}

// How a business call ended for its caller; errcode is null where there was none.
function call(via, errcode, error) {
  const ok = errcode === 0;
  for (const name of ['calls', via, ok ? 'ok' : 'failed']) counters[name]++;
  emit('call', { via, ok, errcode, ...(error && { error }) });
}

function rejected(via, errcode) {
  if (!REFUSED.includes(errcode)) return;
  counters.rejected++;
  emit('rejected', { via, errcode });
}

// 0 where the answer has none; it may be a text, or sit in base_resp.
function errcodeOf(answer) {
  const code = Number((answer && answer.base_resp ? answer.base_resp : answer || {}).errcode || 0);
  return Number.isNaN(code) ? 0 : code;
}

// As in the library's README; it has no Redis cache of its own, only this interface.
class RedisCache extends CacheInterface {
  constructor(redis) {
    super();
    this.redis = redis;
  }

  get(id) {
    return this.redis.get(id);
  }

  async has(id) {
    return (await this.redis.exists(id)) > 0;
  }

  async set(id, data = null, lifeTime = 0) {
    await (lifeTime > 0 ? this.redis.set(id, data, 'EX', lifeTime) : this.redis.set(id, data));
    return true;
  }

  async delete(id) {
    await this.redis.del(id);
    return true;
  }
}

// The library's axios sees every answer.
function watch(axios) {
  axios.interceptors.response.use((response) => {
    const errcode = errcodeOf(response.data);
    if (TOKEN_PATHS.test(response.config.url)) {
      const ok = response.status === 200 && errcode === 0;
      counters.token_calls++;
      if (!ok) counters.token_failures++;
      emit('token_call', { ok, errcode });
    } else {
      rejected('beside', errcode);
    }
    return response;
  });
}

async function beside(app) {
  const before = counters.token_failures;
  try {
    const response = await app.getClient().get('cgi-bin/getcallbackip');
    call('beside', errcodeOf(response.toObject()));
  } catch (error) {
    call('beside', null, counters.token_failures > before ? 'no token' : error.code || error.name);
  }
}

// A plain call without a token: GET and POST in turn.
function throughTheMesh(number) {
  const body = number % 2 === 0 ? '' : '{"touser":"o1"}';
  const path = body ? '/cgi-bin/message/template/send' : '/cgi-bin/getcallbackip';
  const headers = { host: 'api.weixin.qq.com', 'content-type': 'application/json', 'content-length': body.length };
  return new Promise((resolve) => {
    const request = http.request(mesh + path, { method: body ? 'POST' : 'GET', headers }, (response) => {
      let text = '';
      response.on('data', (part) => (text += part));
      response.on('end', () => {
        if (response.statusCode !== 200) return resolve(call('mesh', null, `status ${response.statusCode}`));
        let errcode = 0;
        try { errcode = errcodeOf(JSON.parse(text)); } catch { /* not JSON: no error */ }
        rejected('mesh', errcode);
        resolve(call('mesh', errcode));
      });
    });
    request.on('error', (error) => resolve(call('mesh', null, error.code || error.name)));
    request.end(body);
  });
}

async function main() {
  const [host, port] = env('REDIS', '127.0.0.1:6379').split(':');
  const redis = new Redis({ host, port: Number(port), db: Number(env('REDIS_DB', '0')) });
  const app = new OfficialAccount({
    app_id: env('APPID'),
    // A reader has no valid secret, so every token that it uses was written by somebody else.
    secret: mode === 'reader' ? 'no-secret' : env('SECRET'),
    use_stable_access_token: env('STABLE', '0') === '1',
    http: { baseURL: `${env('WECHAT')}/` },
  });
  app.setCache(new RedisCache(redis));
  // The library's default key has the secret in it; those who share a key set one.
  const key = env('KEY', '');
  if (key) app.getAccessToken().setKey(key);
  watch(app.getHttpClient().getInstance());

  emit('ready', about);
  const end = Date.now() + Number(env('RUN_MS', '10000'));
  let number = 0;
  do {
    await beside(app);
    if (mesh) await throughTheMesh(number);
    number++;
    await new Promise((resolve) => setTimeout(resolve, Number(env('PAUSE_MS', '200'))));
  } while (Date.now() < end);
  emit('summary', { ...about, ...counters });
  redis.disconnect();
}

main();
