-- A table with a column of every type whose values have ever come back changed, and rows of such values: the same ones
-- each time for the same name of the table. %[1]s is that name, %[2]d the number of rows, %[3]d the number of texts.
CREATE TABLE `%[1]s` (
  id BIGINT UNSIGNED NOT NULL PRIMARY KEY,
  label VARCHAR(190) NOT NULL,
  remark TEXT,
  price DECIMAL(30,10),
  ratio DOUBLE,
  small_ratio FLOAT,
  seen_at DATETIME(6),
  day DATE,
  span TIME(6),
  body BLOB,
  most BIGINT UNSIGNED,
  least BIGINT,
  bits BIT(64),
  tags SET('a','b','c')
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
SELECT seq AS id,
  LEFT(text, 190) AS label,
  IF(MOD(number, 8) = 0, NULL, REPEAT(text, 1 + MOD(number, 3))) AS remark,
  CONCAT(IF(MOD(number, 2), '-', ''), number, '.', LPAD(MOD(number, 9999999999), 10, '0')) AS price,
  ELT(1 + MOD(number, 6), 0.1, -1e0 / 3, '1.7976931348623157e308', 1e-300, number / 7e9, NULL) AS ratio,
  ELT(1 + MOD(number, 5), 0.1, '3.4028234e38', -16777217, number / 7e9, NULL) AS small_ratio,
  TIMESTAMPADD(MICROSECOND, MOD(number, 283000000000000000), '1000-01-01') AS seen_at,
  IF(MOD(number, 7) = 0, NULL, TIMESTAMPADD(DAY, MOD(number, 3280000), '1000-01-01')) AS day,
  SEC_TO_TIME(MOD(number, 6000000000000) * 0.000001 - 3000000) AS span,
  UNHEX(REPEAT(hash, MOD(number, 12))) AS body,
  ELT(1 + MOD(number, 5), 18446744073709551615, 9223372036854775808, 0, number, NULL) AS most,
  ELT(1 + MOD(number, 4), -9223372036854775808, 9223372036854775807, -1, NULL) AS least,
  CASE MOD(number, 4) WHEN 0 THEN 0 WHEN 1 THEN 18446744073709551615 WHEN 2 THEN number END AS bits,
  ELT(1 + MOD(number, 5), '', 'a', 'a,c', 'a,b,c', NULL) AS tags
FROM (
  SELECT seq, text, hash, CAST(CONV(LEFT(hash, 16), 16, 10) AS UNSIGNED) AS number
  FROM (SELECT seq, text, MD5(CONCAT('%[1]s', seq)) AS hash FROM seq_1_to_%[2]d JOIN texts ON n = 1 + MOD(seq, %[3]d)) rows_of
) numbered
