// Run by mongosh at every `docker compose up`: begins the replica sets, adds the shards, makes roles and users. What is there
// already stays; roles and passwords become those of today. Comes in as the cluster itself, by its key, so that no user with
// all rights needs to exist.
//   MONGODB_LAYOUT   sharded: config server, two shards, router; single: one replica set

const fs = require("fs");

const DATABASE = "orderfleet";
const START_SECONDS_MAX = 90;
const sharded = process.env.MONGODB_LAYOUT === "sharded";
const key = fs.readFileSync("/run/secrets/mongodb-key", "utf8").replace(/\s/g, "");
const passwords = JSON.parse(fs.readFileSync("/run/secrets/mongodb-users", "utf8"));

// Only what each of them does; docs/OPERATIONS.md says what operators need. Nobody but `setup` can drop or shard anything, and
// nobody at all updates the operator log.
const on = (collection, ...actions) => ({ resource: { db: DATABASE, collection }, actions });
const look = on("", "find", "listCollections", "listIndexes", "collStats", "dbStats");
const write = (...collections) => collections.map((name) => on(name, "insert", "update"));
const roles = {
  worker: [
    look,
    on("", "createCollection", "createIndex", "collMod"),
    ...write("orders", "dead_letters", "dead_letter_readings", "worker_status"),
    on("dead_letter_readings", "remove"),
    on("worker_status", "remove"),
  ],
  query: [on("orders", "find"), on("dead_letters", "find")],
  signal: [look],
  operator: [
    look,
    ...write("dead_letters", "replays", "replay_items", "pauses"),
    on("pauses", "remove"),
    on("operator_log", "insert"),
    on("doctor", "insert", "remove"),
  ],
};

function main() {
  const shards = sharded ? ["shard-1", "shard-2"] : ["rs0"];
  if (sharded) begin("config", "mongodb-config:27017", { configsvr: true });
  for (const name of shards) begin(name, host(name), {});
  const admin = open(sharded ? "mongodb:27017" : host("rs0"));
  if (sharded) for (const name of shards) must(admin, { addShard: `${name}/${host(name)}`, name });
  for (const [role, privileges] of Object.entries(roles)) makeRole(admin.getSiblingDB(DATABASE), role, privileges);
  for (const user of ["worker", "query", "signal"]) makeUser(admin, user, [{ role: user, db: DATABASE }]);
  // Tells `orderfleet doctor` and `shard status` how the servers are.
  makeUser(admin, "operator", [{ role: "operator", db: DATABASE }, "clusterMonitor"]);
  makeUser(admin, "setup", [{ role: "dbOwner", db: DATABASE }, "clusterManager", "clusterMonitor"]);
  print("mongodb: ready");
}

function host(name) {
  return name === "rs0" ? "mongodb-shard-1:27017" : `mongodb-${name}:27017`;
}

// The admin database of a server, as the cluster itself.
function open(address) {
  const uri = `mongodb://__system:${encodeURIComponent(key)}@${address}/admin?authSource=local&directConnection=true` +
    "&serverSelectionTimeoutMS=2000";
  return until(`${address} answers`, () => connect(uri));
}

// A replica set of one member. Waits until it can be written to.
function begin(name, address, options) {
  const admin = open(address);
  if (!admin.hello().setName) {
    must(admin, { replSetInitiate: { _id: name, ...options, members: [{ _id: 0, host: address }] } });
  }
  until(`${name} has a primary`, () => admin.hello().isWritablePrimary || fail("not yet"));
}

function makeRole(database, role, privileges) {
  const there = must(database, { rolesInfo: role }).roles.length > 0;
  must(database, { [there ? "updateRole" : "createRole"]: role, privileges, roles: [] });
}

function makeUser(admin, user, roles) {
  const there = must(admin, { usersInfo: user }).users.length > 0;
  must(admin, { [there ? "updateUser" : "createUser"]: user, pwd: passwords[user], roles });
}

function must(database, command) {
  const answer = database.runCommand(command);
  if (!answer.ok) fail(`${Object.keys(command)[0]}: ${answer.codeName}`);
  return answer;
}

function fail(why) {
  throw new Error(why);
}

function until(what, attempt) {
  const deadline = Date.now() + START_SECONDS_MAX * 1000;
  for (;;) {
    try {
      // mongosh waits for what is kept, and not for what is returned.
      const result = attempt();
      return result;
    } catch (error) {
      if (Date.now() > deadline) fail(`in vain: ${what}: ${error.message}`);
      sleep(500);
    }
  }
}

main();
