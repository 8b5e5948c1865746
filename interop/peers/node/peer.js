// Drives npm node-kcp through the exchange described in ../README.md: commands
// on stdin, one event per line on stdout. node-kcp is the bare protocol core,
// so the socket, the routing by address and the timer are ours.
'use strict';

const crypto = require('crypto');
const dgram = require('dgram');
const readline = require('readline');
// The package's own "main" names a file that is not the addon.
const { KCP } = require('node-kcp/build/Release/kcp');

const WINDOW = 256;
const INTERVAL_MS = 10;
const MAGIC = Buffer.from('KCPX');
const WELCOME = Buffer.from('GOOD');
const RECEIPT = Buffer.from('DONE');

const args = Object.fromEntries(
  process.argv.slice(2).map((word, i, all) => [word.replace(/^--/, ''), all[i + 1]])
    .filter((_, i) => i % 2 === 0));
const stream = args.mode === 'stream';
const sendSizes = args.send.split(',').map(Number);
const expectSizes = args.expect.split(',').map(Number);
const total = Number(args.bytes);
const up = content(Number(args.seed), total);
const down = content((Number(args.seed) + 1) >>> 0, total);
const started = process.hrtime.bigint();

let created = 0;
const live = new Map();

function event(line) {
  process.stdout.write(line + '\n');
}

// SHA-256 in counter mode: the same bytes in every language.
function content(seed, length) {
  const out = Buffer.alloc(Math.ceil(length / 32) * 32);
  const block = Buffer.alloc(8);
  block.writeUInt32LE(seed, 0);
  for (let i = 0; i * 32 < length; i++) {
    block.writeUInt32LE(i, 4);
    crypto.createHash('sha256').update(block).digest().copy(out, i * 32);
  }
  return out.subarray(0, length);
}

function sha256(data) {
  return crypto.createHash('sha256').update(data).digest();
}

function now() {
  return Number((process.hrtime.bigint() - started) / 1000000n) >>> 0;
}

class Session {
  constructor(conv, socket, remote) {
    this.number = ++created;
    this.socket = socket;
    this.waiters = [];
    this.pending = Buffer.alloc(0);
    this.closed = false;
    this.kcp = new KCP(conv, {});
    this.kcp.nodelay(1, INTERVAL_MS, 2, 1);
    this.kcp.wndsize(WINDOW, WINDOW);
    this.kcp.setmtu(1400);
    this.kcp.stream(stream ? 1 : 0);
    this.kcp.output((data, size) => {
      if (!this.closed) socket.send(data, 0, size, remote.port, remote.address);
    });
    this.kcp.update(now());
    this.timer = setInterval(() => this.tick(), INTERVAL_MS);
  }

  tick() {
    if (this.closed) return;
    this.kcp.update(now());
    this.wake();
  }

  input(datagram) {
    if (this.closed) return;
    const result = this.kcp.input(datagram);
    if (result < 0) process.stderr.write(`input returned ${result}\n`);
    this.wake();
  }

  wake() {
    const waiters = this.waiters;
    this.waiters = [];
    for (const resume of waiters) resume();
  }

  wait() {
    return new Promise((resume) => this.waiters.push(resume));
  }

  // The core queues without bound: hold back at two windows.
  async send(data) {
    while (this.kcp.waitsnd() >= 2 * WINDOW) await this.wait();
    const result = this.kcp.send(data);
    if (result < 0) throw new Error(`send returned ${result}`);
    this.kcp.flush();
  }

  // Exactly `length` bytes: one message, or that much of the stream.
  async take(length) {
    for (;;) {
      if (stream && this.pending.length >= length) {
        const piece = this.pending.subarray(0, length);
        this.pending = this.pending.subarray(length);
        return piece;
      }
      const data = this.kcp.recv();
      if (data === undefined) {
        await this.wait();
      } else if (stream) {
        this.pending = Buffer.concat([this.pending, data]);
      } else if (data.length !== length) {
        throw new Error(`message of ${data.length} bytes, expected ${length}`);
      } else {
        return data;
      }
    }
  }

  async sendContent(data) {
    for (let i = 0, offset = 0; offset < data.length; i++) {
      const size = Math.min(sendSizes[i % sendSizes.length], data.length - offset);
      await this.send(data.subarray(offset, offset + size));
      offset += size;
    }
  }

  async takeContent(want) {
    const digest = crypto.createHash('sha256');
    for (let i = 0, offset = 0; offset < want.length; i++) {
      const size = Math.min(expectSizes[i % expectSizes.length], want.length - offset);
      const piece = await this.take(size);
      if (!piece.equals(want.subarray(offset, offset + size))) {
        throw new Error(`content differs in bytes ${offset}..${offset + size}`);
      }
      digest.update(piece);
      offset += size;
    }
    return digest.digest();
  }

  async takeReceipt(sent) {
    const got = await this.take(RECEIPT.length + 32);
    if (!got.equals(Buffer.concat([RECEIPT, sha256(sent)]))) {
      throw new Error(`bad receipt ${got.toString('hex')}`);
    }
  }

  async request(length) {
    const header = Buffer.concat([MAGIC, Buffer.alloc(4)]);
    header.writeUInt32LE(length, 4);
    await this.send(header);
    const welcome = await this.take(WELCOME.length);
    if (!welcome.equals(WELCOME)) throw new Error(`bad welcome ${welcome.toString('hex')}`);
    await this.sendContent(up.subarray(0, length));
    const got = await this.takeContent(down.subarray(0, length));
    await this.send(Buffer.concat([RECEIPT, got]));
    await this.takeReceipt(up.subarray(0, length));
  }

  async serve() {
    const header = await this.take(8);
    const length = header.readUInt32LE(4);
    if (!header.subarray(0, 4).equals(MAGIC) || length > total) {
      throw new Error(`bad header ${header.toString('hex')}`);
    }
    await this.send(WELCOME);
    const got = await this.takeContent(up.subarray(0, length));
    await this.sendContent(down.subarray(0, length));
    await this.takeReceipt(down.subarray(0, length));
    await this.send(Buffer.concat([RECEIPT, got]));
  }

  report(exchange) {
    exchange.then(
      () => event(`ok ${this.number}`),
      (error) => event(`failed ${this.number} ${error.message}`));
  }

  close() {
    this.closed = true;
    clearInterval(this.timer);
    this.kcp.release();
  }
}

function listen() {
  const socket = dgram.createSocket({ type: 'udp4', recvBufferSize: 4 << 20, sendBufferSize: 4 << 20 });
  socket.on('message', (datagram, remote) => {
    const key = `${remote.address}:${remote.port}`;
    let session = live.get(key);
    if (session === undefined) {
      if (datagram.length < 24) return;
      session = new Session(datagram.readUInt32LE(0), socket, remote);
      live.set(key, session);
      event(`accepted ${session.number}`);
      session.report(session.serve());
    }
    session.input(datagram);
  });
  socket.bind(0, '127.0.0.1', () => event(`listening 127.0.0.1:${socket.address().port}`));
}

function connect(address, conv, length) {
  const [host, port] = address.split(':');
  const socket = dgram.createSocket({ type: 'udp4', recvBufferSize: 4 << 20, sendBufferSize: 4 << 20 });
  socket.bind(0, '127.0.0.1', () => {
    const session = new Session(Number(conv), socket, { address: host, port: Number(port) });
    session.owned = true;
    live.set(`client ${session.number}`, session);
    socket.on('message', (datagram) => session.input(datagram));
    session.report(session.request(Number(length)));
  });
}

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const words = line.trim().split(/\s+/);
  switch (words[0]) {
    case 'connect':
      connect(words[1], words[2], words[3]);
      break;
    case 'close':
      for (const session of live.values()) {
        session.close();
        if (session.owned) session.socket.close();
      }
      live.clear();
      event('closed');
      break;
    case 'sessions':
      event(`sessions ${created} ${live.size}`);
      break;
    case 'stats':
      event(`stats waitsnd ${[...live.values()].map((session) => session.kcp.waitsnd())}`);
      break;
    case 'quit':
      process.exit(0);
  }
}).on('close', () => process.exit(0));

if (args.role === 'server') listen();
