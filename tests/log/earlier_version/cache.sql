CREATE TABLE answers (
    key blob not null, turn_id text not null, primary key (key, turn_id)
) without rowid;
insert into answers values (X'81FC2D1A58BE93ACECF7A8EBD1B43B356E44E55F0B5FE5AEACCDD73D5518E0D5', '01m8hcv40cbak24gf379vpezw4');
insert into answers values (X'8AFDA202DEA3231A8C321A97B78D45DDB00C3292B9729ECE85751F6A1CC2BEBE', '01m8hcv41rbbtymgpn8wvxxtrd');
insert into answers values (X'C1A689229B0EFF67B9A1490DCF0AFB7D84429DCC8B8B72C60B8434A6090C78D8', '01m8hcv40x0bfx3t21665wygsc');
insert into answers values (X'D512EE6C7E82257D64235EEED0ABCD665D64F2C946B7C31549829A76CA9BD30C', '01m8hcv3sm4rab9d8x0g0jmzxp');
CREATE TABLE mark (turn_rowid integer not null, turn_id text not null);
insert into mark values (4, '01m8hcv41rbbtymgpn8wvxxtrd');
pragma user_version = 1;
