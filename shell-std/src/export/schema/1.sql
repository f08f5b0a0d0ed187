-- What gateways book, in the schema blvm_mesh. Amounts are in millisatoshi: a whole number below 2^64,
-- which a bigint does not hold. Nodes and payments are 32 bytes. A time that a node did not
-- know is 1970-01-01; one after the year 9999 is its end.

DO $$
BEGIN
    -- Whoever may not make schemas can be given this one.
    IF to_regnamespace('blvm_mesh') IS NULL THEN
        CREATE SCHEMA blvm_mesh;
    END IF;
END
$$;

CREATE DOMAIN blvm_mesh.u64 AS numeric(20, 0)
    CHECK (VALUE BETWEEN 0 AND 18446744073709551615);
CREATE DOMAIN blvm_mesh.hash AS bytea CHECK (octet_length(VALUE) = 32);

CREATE TABLE blvm_mesh.migrations (
    version integer PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- By this a node knows that it is the same database as before.
CREATE TABLE blvm_mesh.database (
    is_only_row boolean PRIMARY KEY DEFAULT true CHECK (is_only_row),
    id uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO blvm_mesh.database DEFAULT VALUES;

CREATE TABLE blvm_mesh.nodes (
    node blvm_mesh.hash PRIMARY KEY,
    network text NOT NULL,
    -- Yours to set: UPDATE blvm_mesh.nodes SET name = 'roof' WHERE ...
    name text UNIQUE,
    -- Transactions so far: by this a node knows that none was undone, as by a backup put back.
    batch bigint NOT NULL DEFAULT 0,
    joined_at timestamptz NOT NULL DEFAULT now(),
    booked_at timestamptz
);

-- Payments that came with datagrams, or went with one (role 'source').
CREATE TABLE blvm_mesh.payments (
    node blvm_mesh.hash NOT NULL REFERENCES blvm_mesh.nodes,
    payment blvm_mesh.hash NOT NULL,
    accepted_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    method text NOT NULL,
    role text NOT NULL,
    place smallint,
    source blvm_mesh.hash NOT NULL,
    destination blvm_mesh.hash NOT NULL,
    amount_msat blvm_mesh.u64 NOT NULL,
    share_msat blvm_mesh.u64 NOT NULL,
    booked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (node, payment, accepted_at)
);
CREATE INDEX payments_by_time ON blvm_mesh.payments (accepted_at);

-- Bytes of flows that others bought at this node.
CREATE TABLE blvm_mesh.sales (
    node blvm_mesh.hash NOT NULL REFERENCES blvm_mesh.nodes,
    payment blvm_mesh.hash NOT NULL,
    accepted_at timestamptz NOT NULL,
    source blvm_mesh.hash NOT NULL,
    amount_msat blvm_mesh.u64 NOT NULL,
    account_bytes blvm_mesh.u64 NOT NULL,
    booked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (node, payment, accepted_at)
);
CREATE INDEX sales_by_time ON blvm_mesh.sales (accepted_at);

-- Bytes of flows that this node bought: 'paid', and then 'credited'.
CREATE TABLE blvm_mesh.purchases (
    node blvm_mesh.hash NOT NULL REFERENCES blvm_mesh.nodes,
    payment blvm_mesh.hash NOT NULL,
    begun_at timestamptz NOT NULL,
    seller blvm_mesh.hash NOT NULL,
    bytes blvm_mesh.u64 NOT NULL,
    amount_msat blvm_mesh.u64 NOT NULL,
    fee_msat blvm_mesh.u64 NOT NULL,
    state text NOT NULL,
    preimage blvm_mesh.hash NOT NULL,
    booked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (node, payment, begun_at)
);
CREATE INDEX purchases_by_time ON blvm_mesh.purchases (begun_at);

-- All of it in one form, as `blvm-mesh ledger --csv` writes it; days are those of UTC.
CREATE VIEW blvm_mesh.lines AS
    SELECT n.network, encode(l.node, 'hex') AS node, n.name, l.kind, l.at,
        (l.at AT TIME ZONE 'UTC')::date AS day,
        encode(l.peer, 'hex') AS peer, p.name AS peer_name,
        l.earned_msat, l.paid_msat, l.fee_msat, l.bytes_credited, l.state,
        encode(l.payment, 'hex') AS payment
    FROM (
        SELECT node, 'datagram' AS kind, accepted_at AS at,
            CASE role WHEN 'source' THEN destination ELSE source END AS peer,
            CASE role WHEN 'source' THEN 0 ELSE share_msat END::numeric AS earned_msat,
            CASE role WHEN 'source' THEN amount_msat ELSE 0 END::numeric AS paid_msat,
            0::numeric AS fee_msat, 0::numeric AS bytes_credited, role AS state, payment
        FROM blvm_mesh.payments
        UNION ALL
        SELECT node, 'sale', accepted_at, source, amount_msat::numeric, 0, 0, 0, 'paid', payment
        FROM blvm_mesh.sales
        UNION ALL
        SELECT node, 'purchase', begun_at, seller, 0, amount_msat::numeric, fee_msat::numeric,
            CASE state WHEN 'credited' THEN bytes ELSE 0 END::numeric, state, payment
        FROM blvm_mesh.purchases
    ) AS l
    JOIN blvm_mesh.nodes AS n ON n.node = l.node
    LEFT JOIN blvm_mesh.nodes AS p ON p.node = l.peer;

CREATE VIEW blvm_mesh.per_day AS
    SELECT network, day, sum(earned_msat) AS earned_msat, sum(paid_msat) AS paid_msat,
        sum(fee_msat) AS fee_msat, count(*) AS payments
    FROM blvm_mesh.lines GROUP BY network, day;

CREATE VIEW blvm_mesh.per_node AS
    SELECT network, node, name, sum(earned_msat) AS earned_msat, sum(paid_msat) AS paid_msat,
        sum(fee_msat) AS fee_msat, count(*) AS payments, max(at) AS last_at
    FROM blvm_mesh.lines GROUP BY network, node, name;

-- peer_name is there for nodes that book here too: what they pay each other stays in the house.
CREATE VIEW blvm_mesh.per_peer AS
    SELECT network, peer, peer_name, sum(earned_msat) AS earned_msat, sum(paid_msat) AS paid_msat,
        sum(fee_msat) AS fee_msat, count(*) AS payments, max(at) AS last_at
    FROM blvm_mesh.lines GROUP BY network, peer, peer_name;
